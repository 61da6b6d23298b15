"""What encoded text is known by: the cache gives back what the same text was made of, under the same settings."""

from __future__ import annotations

from typing import Any

import pytest
from tests.stages.conftest import Draw, same

FRESH = {"persistent_cond_cache": False}
LORA = "a red circle <lora:words:1:0>"


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {"prompt": LORA}),
        ({"CLIP_stop_at_last_layers": 2}, {}),
        ({"emphasis": "No norm"}, {"prompt": "a (red:1.9) circle"}),
        ({"use_old_emphasis_implementation": True}, {"prompt": "a (red:1.9) [circle]"}),
    ],
    ids=["networks", "clip skip", "emphasis", "old emphasis"],
)
def test_text_is_encoded_again_under_other_settings(
    draw: Draw, options: dict[str, Any], fields: dict[str, Any]
) -> None:
    """The same words (tags are no words) come from the cache no more once something else makes them."""
    plain = draw(**{**fields, "prompt": fields.get("prompt", "a red circle").replace(" <lora:words:1:0>", "")})
    changed = draw(options, **fields)
    assert not same(changed, plain)
    assert same(changed, draw({**options, **FRESH}, **fields))


def test_a_networks_strength_counts(draw: Draw) -> None:
    full, little = draw(prompt=LORA), draw(prompt=LORA.replace(":1:", ":0.1:"))
    assert not same(full, little)
    assert same(little, draw(FRESH, prompt=LORA.replace(":1:", ":0.1:")))


def test_the_second_pass_has_the_networks_of_its_own_prompt(draw: Draw) -> None:
    hires = {"enable_hr": True, "hr_upscaler": "Latent", "hr_scale": 1.0, "denoising_strength": 0.7}
    assert not same(draw(**hires, hr_prompt=LORA), draw(**hires))
    assert not same(draw(**hires, prompt=LORA, hr_prompt="a red circle"), draw(**hires, prompt=LORA))


def test_what_a_network_changed_is_put_back(draw: Draw) -> None:
    plain = draw(FRESH)
    draw(prompt=LORA)
    assert same(draw(FRESH), plain)


def test_a_refiner_from_the_first_step_on_is_the_model(draw: Draw) -> None:
    """Text, networks, UNet and VAE are the refiner's."""
    refiner = {"refiner_checkpoint": "other", "refiner_switch_at": 0.0}
    for prompt in ("a red circle", LORA):
        assert same(draw(**refiner, prompt=prompt), draw({"sd_model_checkpoint": "other"}, prompt=prompt))
