from __future__ import annotations

import pytest

from latentd.sampling.catalogue import SamplerCatalogue
from latentd.sampling.steps import setup_img2img_steps, total_steps

CATALOGUE = SamplerCatalogue()


@pytest.mark.parametrize(("name", "expected"), [("Euler", 20), ("Heun", 40), ("DPM++ SDE Karras", 40), ("DDIM", 20)])
def test_second_order_samplers_count_double(name: str, expected: int) -> None:
    spec = CATALOGUE.sampler(name)
    assert spec is not None
    assert total_steps(spec, 20) == expected


@pytest.mark.parametrize(
    ("strength", "fix", "requested", "expected"),
    [
        (0.75, False, None, (20, 15)),
        (1.0, False, None, (20, 19)),
        (0.0, False, None, (20, 0)),
        (0.5, True, None, (40, 19)),
        (0.0, True, None, (0, 19)),
        (0.5, False, 10, (20, 9)),
        (1.0, False, 10, (10, 9)),
    ],
)
def test_img2img_steps(strength: float, fix: bool, requested: int | None, expected: tuple[int, int]) -> None:
    assert setup_img2img_steps(20, strength, fix, requested) == expected
