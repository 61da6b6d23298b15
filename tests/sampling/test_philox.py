from __future__ import annotations

import numpy as np

from latentd.sampling.philox import PhiloxGenerator

# torch.randn(3, 4) on a CUDA device with seed 0; the device computes logarithm and sine in float32
CUDA_SEED_0 = [
    [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
    [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
    [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
]


def test_first_draw_is_cudas() -> None:
    drawn = PhiloxGenerator(0).randn((3, 4))
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn, CUDA_SEED_0, rtol=0, atol=3e-7)


def test_values_do_not_depend_on_the_size_of_the_draw() -> None:
    np.testing.assert_array_equal(PhiloxGenerator(5).randn((2, 6)).ravel(), PhiloxGenerator(5).randn((100,))[:12])


def test_each_draw_advances_by_one_whatever_its_size() -> None:
    small, large = PhiloxGenerator(9), PhiloxGenerator(9)
    small.randn((1,))
    large.randn((4000,))
    np.testing.assert_array_equal(small.randn((8,)), large.randn((8,)))


def test_high_and_negative_seeds_are_64_bits() -> None:
    assert not np.array_equal(PhiloxGenerator(1).randn((8,)), PhiloxGenerator(1 + (1 << 32)).randn((8,)))
    np.testing.assert_array_equal(PhiloxGenerator(-3).randn((8,)), PhiloxGenerator((1 << 64) - 3).randn((8,)))


def test_draws_are_standard_normal() -> None:
    drawn = PhiloxGenerator(1234).randn((100_000,))
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.std() - 1) < 0.01
