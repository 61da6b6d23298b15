from __future__ import annotations

import itertools

import pytest
import torch

from latentd.sampling.brownian import BrownianNoise, BrownianTree

SHAPE = (4, 5, 6)
LOW, HIGH = 0.0291675, 14.614642
STEPS = [14.614642, 9.3, 5.0123457, 5.012344, 2.2, 0.6, 0.0291675]


@pytest.mark.parametrize("seed", [0, 1234, 2**32 + 17])
def test_increments_are_torchsdes(seed: int) -> None:
    torchsde = pytest.importorskip("torchsde")
    theirs = torchsde.BrownianTree(LOW, torch.zeros(SHAPE), HIGH, entropy=seed)
    ours = BrownianTree(LOW, HIGH, SHAPE, seed, "CPU")
    for upper, lower in itertools.pairwise(STEPS):
        assert torch.equal(ours.increment(lower, upper), theirs(lower, upper))
    for lower, upper in [(0.5, 3.0), (LOW, HIGH), (2.2, 9.3), (1.0, 1.0)]:  # overlaps, the whole, nothing
        assert torch.equal(ours.increment(lower, upper), theirs(lower, upper))


@pytest.mark.filterwarnings("ignore:Should have")
def test_points_outside_the_path_count_as_its_ends_as_in_torchsde() -> None:
    torchsde = pytest.importorskip("torchsde")
    theirs = torchsde.BrownianTree(LOW, torch.zeros(SHAPE), HIGH, entropy=3)
    ours = BrownianTree(LOW, HIGH, SHAPE, 3, "CPU")
    assert torch.equal(ours.increment(5.0, HIGH + 1), theirs(5.0, HIGH + 1))
    assert torch.equal(ours.increment(LOW - 0.01, 5.0), theirs(LOW - 0.01, 5.0))


def test_path_does_not_depend_on_the_order_of_queries() -> None:
    forward, backward = (BrownianTree(LOW, HIGH, SHAPE, 8, "NV") for _ in range(2))
    pairs = list(zip(STEPS[1:], STEPS, strict=False))
    there = [forward.increment(*pair) for pair in pairs]
    back = [backward.increment(*pair) for pair in reversed(pairs)]
    for a, b in zip(there, reversed(back), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_increments_add_up() -> None:
    tree = BrownianTree(LOW, HIGH, SHAPE, 5, "NV")
    whole = tree.increment(0.3, 7.0)
    assert torch.allclose(whole, tree.increment(0.3, 2.5) + tree.increment(2.5, 7.0), atol=1e-5)


def test_noise_is_standard_normal_and_belongs_to_each_seed() -> None:
    shape, sigmas = (4, 40, 40), torch.tensor(STEPS)
    batch = BrownianNoise(shape, [1, 2], LOW, HIGH, "NV")
    alone = BrownianNoise(shape, [2], LOW, HIGH, "NV")
    for a, b in itertools.pairwise(sigmas):
        noise = batch(a, b)
        assert torch.equal(noise[1:], alone(a, b))
        if a - b > 0.1:
            assert abs(noise.std().item() - 1) < 0.05
    assert torch.equal(batch(sigmas[0], sigmas[2]), -batch(sigmas[2], sigmas[0]))


def test_levels_closer_than_the_tolerance_give_zeros() -> None:
    tree = BrownianTree(LOW, HIGH, SHAPE, 5, "CPU")
    assert torch.equal(tree.increment(5.0123456, 5.0123457), torch.zeros(SHAPE))


def test_sources_give_different_paths() -> None:
    cpu, nv = (BrownianTree(LOW, HIGH, SHAPE, 5, source).increment(1, 2) for source in ("CPU", "NV"))
    assert not torch.allclose(cpu, nv)


def test_many_queries_keep_few_tensors() -> None:
    tree = BrownianTree(LOW, HIGH, SHAPE, 5, "CPU")
    for k in range(40):
        tree.increment(0.1 + k * 0.3, 0.3 + k * 0.3)
    assert len(tree._cache) <= 128


def test_a_level_that_is_no_number_is_refused_at_once() -> None:
    tree = BrownianTree(0.03, 14.6, (4, 2, 2), 1, "cpu")
    for points in ((float("nan"), 1.0), (1.0, float("nan"))):
        with pytest.raises(ValueError, match="no number"):
            tree.increment(*points)
    assert tree.increment(1.0, float("inf")).isfinite().all()
