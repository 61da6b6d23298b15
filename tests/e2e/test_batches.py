"""A picture does not depend on which batch it was made in."""

from __future__ import annotations

import pytest
from tests.e2e.calls import difference, draw, input_text
from tests.reference_server import ReferenceServer

#: Of 255: a batch's matrix products may round otherwise than a single picture's.
ROUNDING = 1


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DPM++ 2M Karras", "DPM++ SDE", "DDIM", "UniPC"])
def test_four_in_a_batch_are_four_singles(live: ReferenceServer, sampler: str) -> None:
    fields = {"sampler_name": sampler, "steps": 4, "prompt": "a (red:1.2) circle"}
    batch = draw(live, batch_size=4, **fields)
    assert batch.info["all_seeds"] == [7, 8, 9, 10]
    for seed, image in zip(batch.info["all_seeds"], batch.images, strict=True):
        assert difference(image, draw(live, seed=seed, **fields).image) <= ROUNDING


def test_batches_of_one_and_one_batch_agree(live: ReferenceServer) -> None:
    together, apart = draw(live, batch_size=2), draw(live, n_iter=2)
    for one, other in zip(together.images, apart.images, strict=True):
        assert difference(one, other) <= ROUNDING


def test_variations_and_img2img_agree_too(live: ReferenceServer) -> None:
    fields = {"subseed": 3, "subseed_strength": 0.4, "init_images": [input_text("init128.png", (64, 64))]}
    batch = draw(live, batch_size=2, **fields)
    for subseed, image in zip(batch.info["all_subseeds"], batch.images, strict=True):
        assert difference(image, draw(live, **{**fields, "subseed": subseed}).image) <= ROUNDING
