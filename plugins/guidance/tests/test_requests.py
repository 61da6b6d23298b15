"""The techniques in whole requests: they act, at strength zero they change nothing, the infotext brings them back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from latentd_guidance import register_scripts
from latentd_guidance.technique import Technique

from latentd.testing import check_hooks, check_script

FREEU, SAG, PAG = ("FreeU Integrated (SD 1.x, SD 2.x, SDXL)", "SelfAttentionGuidance Integrated",
                   "PerturbedAttentionGuidance Integrated")  # fmt: skip
HRFIX, DYNTHRES = "Kohya HRFix Integrated", "DynamicThresholding (CFG-Fix) Integrated"
RESCALE, TILES = "RescaleCFG for reForge", "MultiDiffusion Integrated"

ACTING: dict[str, list[Any]] = {
    FREEU: [True, 1.3, 1.4, 0.9, 0.2],
    SAG: [True, 0.75, 2.0, 0.9],
    PAG: [True, 3.0],
    HRFIX: [True, 3, 2.0, 0.0, 0.6, True, "bicubic", "bicubic"],
    DYNTHRES: [True, 2.0, 0.95, "Constant", 0.0, "Constant", 0.0, 1.0, "enable", "MEAN", "AD", 1.0],
    RESCALE: [True, 0.7],
    TILES: [True, "Mixture of Diffusers", 48, 48, 16, 4],
}
WITHOUT_EFFECT: dict[str, list[Any]] = {
    FREEU: [True, 1, 1, 1, 1],
    SAG: [True, 0.0],
    PAG: [True, 0],
    HRFIX: [True, 3, 2.0, 0.0, 0.0],
    RESCALE: [True, 0],
    TILES: [True, "MultiDiffusion", 64, 64, 0, 1],
}


def test_the_plugin_and_its_scripts_are_sound() -> None:
    import latentd_guidance

    check_hooks(latentd_guidance)
    for script in register_scripts():
        check_script(script)


@pytest.mark.parametrize("title", ACTING)
def test_it_acts_under_the_names_that_clients_send(draw: Callable[..., Any], plain: np.ndarray, title: str) -> None:
    drawn = draw({title: ACTING[title]})
    assert drawn.image.shape == plain.shape
    assert not np.array_equal(drawn.image, plain)
    assert "warnings" not in drawn.info
    (script,) = [s for s in register_scripts() if title in (s.title, *s.aliases)]
    assert isinstance(script, Technique)
    assert f"{script.prefix}enabled: True" in drawn.infotext


@pytest.mark.parametrize("title", ACTING)
def test_off_changes_no_pixel_and_no_word(draw: Callable[..., Any], plain: np.ndarray, title: str) -> None:
    drawn = draw({title: [False, *ACTING[title][1:]]})
    assert np.array_equal(drawn.image, plain)
    assert "_enabled" not in drawn.infotext


@pytest.mark.parametrize("title", WITHOUT_EFFECT)
def test_strength_zero_changes_no_pixel(draw: Callable[..., Any], plain: np.ndarray, title: str) -> None:
    assert np.array_equal(draw({title: WITHOUT_EFFECT[title]}).image, plain)


@pytest.mark.parametrize("title", ACTING)
def test_the_infotext_draws_the_same_picture(draw: Callable[..., Any], title: str) -> None:
    first = draw({title: ACTING[title]})
    again = draw(body={"infotext": first.infotext})
    assert again.infotext == first.infotext
    assert np.array_equal(again.image, first.image)


@pytest.mark.parametrize("title", [SAG, PAG, DYNTHRES, RESCALE])
def test_it_acts_with_timestep_samplers_too(draw: Callable[..., Any], title: str) -> None:
    assert not np.array_equal(draw({title: ACTING[title]}, sampler_name="DDIM").image, draw(sampler_name="DDIM").image)


def test_all_of_them_go_together_also_with_hires_fix_and_a_batch(draw: Callable[..., Any]) -> None:
    tiles = {TILES: ACTING[TILES]}
    rest = {title: args for title, args in ACTING.items() if title not in (TILES, HRFIX)}
    drawn = draw(rest, enable_hr=True, hr_scale=2, hr_upscaler="Latent", denoising_strength=0.6, batch_size=2)
    assert drawn.image.shape == (128, 128, 3) or drawn.image.shape == (128, 256, 3)
    told = draw({**rest, **tiles}).info["warnings"]
    assert told == ["SelfAttentionGuidance does not act where the UNet sees the picture in tiles"]


def test_prompts_of_several_parts_and_scale_one(draw: Callable[..., Any]) -> None:
    scripts = {title: ACTING[title] for title in (SAG, PAG, DYNTHRES, RESCALE)}
    for fields in ({"prompt": "a red ring AND a blue disc :0.5"}, {"cfg_scale": 1}):
        assert not np.array_equal(draw(scripts, **fields).image, draw(**fields).image)


@pytest.mark.parametrize(
    ("title", "args"),
    [
        (FREEU, [True, "much"]),
        (FREEU, [True, float("1e300")]),
        (SAG, [True, 0.5, -1]),
        (HRFIX, [True, 3, 0]),
        (HRFIX, [True, 3, 2, 0, 0.4, True, "lanczos"]),
        (DYNTHRES, [True, 7, 2]),
        (DYNTHRES, [True, 7, 1, "Sideways"]),
        (TILES, [True, "MultiDiffusion", 8, 8]),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(send: Callable[..., Any], title: str, args: list[Any]) -> None:
    reply = send({title: args})
    assert reply.status_code == 422
    assert title.split(" (")[0].split(" Integrated")[0] in reply.text


def test_a_block_that_the_model_does_not_have_is_told(draw: Callable[..., Any], plain: np.ndarray) -> None:
    drawn = draw({HRFIX: [True, 30]})
    assert drawn.info["warnings"] == ["Kohya HRFix: this model has no input_blocks.30; nothing shrinks"]
    assert np.array_equal(drawn.image, plain)


def test_script_info_shows_the_sliders(server: Any) -> None:
    rows = {row["name"]: row for row in server.get("/sdapi/v1/script-info").json()}
    b1 = rows[FREEU.lower()]["args"][1]
    assert b1 == {"label": "B1", "value": 1.01, "minimum": 0, "maximum": 2, "step": 0.01, "choices": None}
