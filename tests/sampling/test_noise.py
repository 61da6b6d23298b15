from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latentd.sampling.noise import NoiseStream, RandnSource, seeded_drawer, slerp

SHAPE = (4, 6, 8)
SOURCES: list[RandnSource] = ["CPU", "NV", "GPU"]


def drawn(seed: int, count: int = 1, shape: tuple[int, ...] = SHAPE) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def test_cpu_source_is_torchs_generator() -> None:
    stream = NoiseStream(SHAPE, [7], "CPU")
    for expected in drawn(7, 3):
        assert torch.equal(stream.next()[0], expected)


def test_gpu_source_without_cuda_is_nv() -> None:
    assert torch.equal(seeded_drawer(3, "GPU")(SHAPE), seeded_drawer(3, "NV")(SHAPE))
    assert not torch.equal(seeded_drawer(3, "GPU")(SHAPE), seeded_drawer(3, "CPU")(SHAPE))


@pytest.mark.parametrize("source", SOURCES)
def test_a_batch_draws_what_its_members_draw_alone(source: RandnSource) -> None:
    seeds, subseeds = [11, 12, 13], [5, 6, 7]
    batch = NoiseStream(SHAPE, seeds, source, subseeds=subseeds, subseed_strength=0.4, ensd=31)
    alone = [
        NoiseStream(SHAPE, [seed], source, subseeds=[sub], subseed_strength=0.4, ensd=31)
        for seed, sub in zip(seeds, subseeds, strict=True)
    ]
    for _ in range(3):
        assert torch.equal(batch.next(), torch.cat([stream.next() for stream in alone]))


def test_variation_seed_is_interpolated_from_a_fresh_generator() -> None:
    stream = NoiseStream(SHAPE, [1], "CPU", subseeds=[2], subseed_strength=0.3)
    first, second = drawn(1, 2)
    assert torch.equal(stream.first()[0], slerp(0.3, first, drawn(2)[0]))
    assert torch.equal(stream.next()[0], second)


def test_ensd_replaces_the_generators_after_the_first_draw() -> None:
    stream = NoiseStream(SHAPE, [100], "CPU", ensd=-30)
    assert torch.equal(stream.next()[0], drawn(100)[0])
    for expected in drawn(70, 2):
        assert torch.equal(stream.next()[0], expected)


def test_seed_resize_pastes_a_smaller_composition_in_the_middle() -> None:
    stream = NoiseStream((4, 9, 8), [5], "CPU", seed_resize_from=(32, 48))
    noise = stream.first()[0]
    full, small = drawn(5, 1, (4, 9, 8))[0], drawn(5, 1, (4, 6, 4))[0]
    assert torch.equal(noise[:, 1:7, 2:6], small)  # the odd difference of 3 leaves one row above, two below
    assert torch.equal(noise[:, 0], full[:, 0])
    assert torch.equal(noise[:, :, :2], full[:, :, :2])
    # the picture's own generator has given one full draw
    assert torch.equal(stream.next()[0], drawn(5, 2, (4, 9, 8))[1])


def test_seed_resize_crops_a_larger_composition() -> None:
    noise = NoiseStream((4, 8, 8), [5], "CPU", seed_resize_from=(96, 88)).first()[0]
    full, large = drawn(5, 1, (4, 8, 8))[0], drawn(5, 1, (4, 11, 12))[0]
    # 11 rows into 8: the offset -1.5 rounds to -2, so the last row is not covered
    assert torch.equal(noise[:, :7], large[:, 2:9, 2:10])
    assert torch.equal(noise[:, 7], full[:, 7])


def test_starting_noise_is_drawn_once() -> None:
    stream = NoiseStream(SHAPE, [1], "CPU")
    stream.first()
    with pytest.raises(ValueError, match="already been drawn"):
        stream.first()


def test_slerp_reaches_both_ends_and_keeps_the_norm() -> None:
    a, b = drawn(1, 2, (4, 64, 8))
    assert torch.allclose(slerp(0.0, a, b), a, atol=1e-6)
    assert torch.allclose(slerp(1.0, a, b), b, atol=1e-6)
    unit_a, unit_b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    assert torch.allclose(slerp(0.37, unit_a, unit_b).norm(dim=1), torch.ones(4, 8), atol=1e-5)


def test_slerp_of_parallel_noise_swaps_its_weights_as_the_original() -> None:
    a = drawn(1)[0]
    assert torch.allclose(slerp(0.25, a, 2 * a), a * 0.25 + 2 * a * 0.75)


def test_seeds_beyond_64_bits_are_folded() -> None:
    assert torch.equal(seeded_drawer((1 << 64) + 5, "CPU")(SHAPE), seeded_drawer(5, "CPU")(SHAPE))
    assert torch.equal(seeded_drawer(-5, "CPU")(SHAPE), drawn(-5)[0])
