from __future__ import annotations

from typing import Any

import pytest

from latentd.errors import InvalidRequest
from latentd.infotext.apply import override_settings, request_fields
from latentd.infotext.parse import Infotext, read_infotext
from latentd.infotext.settings import whole

TEXT = (
    "a green square on a yellow background\nNegative prompt: blurry\nSteps: 7, Sampler: DPM++ 2M Karras, CFG scale: 4, "
    "Seed: 4321, Size: 96x128, Clip skip: 2, ENSD: 5, RNG: NV, Version: v1.8.0"
)
CURRENT = {
    "CLIP_stop_at_last_layers": 1,
    "randn_source": "GPU",
    "eta_noise_seed_delta": 0,
    "k_sched_type": "Automatic",
    "sigma_min": 0.0,
    "sigma_max": 0.0,
    "rho": 0.0,
    "sd_vae_encode_method": "Full",
    "sd_vae_decode_method": "Full",
    "emphasis": "Original",
    "refiner_switch_by_sample_steps": False,
}


def infotext(**values: object) -> Infotext:
    """An infotext that states ``values``; ``_`` in a key is a space."""
    named = {key.replace("_", " "): value for key, value in values.items()}
    return Infotext(values=named, stated=frozenset(named))


def overrides(text: Infotext, *arguments: Any, **more: Any) -> dict[str, object]:
    return {option: value for option, (_, value) in override_settings(text, *arguments, **more).items()}


def test_a_recorded_request_that_is_only_infotext() -> None:
    parameters = read_infotext(TEXT)
    assert request_fields(parameters, "txt2img", ()) == {
        "prompt": "a green square on a yellow background",
        "negative_prompt": "blurry",
        "steps": 7,
        "sampler_name": "DPM++ 2M Karras",
        "cfg_scale": 4.0,
        "width": 96,
        "height": 128,
        "seed": 4321,
        "hr_resize_x": 0,
        "hr_resize_y": 0,
        "hr_checkpoint_name": "Use same checkpoint",
        "hr_sampler_name": "Use same sampler",
        "hr_prompt": "",
        "hr_negative_prompt": "",
        "enable_hr": False,
    }
    expected = {"eta_noise_seed_delta": 5, "CLIP_stop_at_last_layers": 2, "randn_source": "NV"}
    assert overrides(parameters, CURRENT) == expected


def test_what_the_request_gives_wins() -> None:
    fields = request_fields(read_infotext(TEXT), "txt2img", {"seed", "prompt", "enable_hr"})
    assert not {"seed", "prompt", "enable_hr"} & set(fields)


def test_img2img_takes_no_hires_fields() -> None:
    fields = request_fields(read_infotext(f"{TEXT}, Denoising strength: 0.2"), "img2img", ())
    assert fields["denoising_strength"] == 0.2
    assert not any(name.startswith(("hr_", "enable_hr")) for name in fields)


def test_seed_resize_is_swapped_as_in_the_original() -> None:
    fields = request_fields(read_infotext(f"{TEXT}, Seed resize from: 64x96"), "txt2img", ())
    assert (fields["seed_resize_from_h"], fields["seed_resize_from_w"]) == (64, 96)


def test_hires_needs_a_denoising_strength() -> None:
    fields = request_fields(read_infotext(f"{TEXT}, Denoising strength: 0.6, Hires upscale: 1.5"), "txt2img", ())
    assert (fields["enable_hr"], fields["hr_scale"]) == (True, 1.5)


def test_styles_are_passed_on() -> None:
    assert request_fields(Infotext(values={"Styles array": ["a"]}, stated=frozenset()), "img2img", ())["styles"] == [
        "a"
    ]


def test_the_checkpoint_is_taken_only_when_allowed() -> None:
    parameters = infotext(Model_hash="328de3e9b7")
    assert overrides(parameters, {"k_sched_type": "Automatic"}) == {}
    taken = overrides(parameters, {"k_sched_type": "Automatic"}, disable_weights_auto_swap=False)
    assert taken == {"sd_model_checkpoint": "328de3e9b7"}


def test_settings_are_of_their_options_type() -> None:
    parameters = infotext(Tiling="True", Pad_conds="False", Eta="0.5", UniPC_order="3", Schedule_rho=0)
    current = {"tiling": False, "pad_cond_uncond": False, "rho": 1.0, "k_sched_type": "Automatic"}
    found = overrides(parameters, current)
    assert found == {"tiling": True, "eta_ancestral": 0.5, "uni_pc_order": 3, "rho": 0.0}


def test_a_value_of_the_wrong_kind_is_named() -> None:
    with pytest.raises(InvalidRequest, match="Steps: many"):
        request_fields(infotext(Steps="many"), "txt2img", ())
    with pytest.raises(InvalidRequest, match="Clip skip: two"):
        override_settings(infotext(Clip_skip="two"), {})


@pytest.mark.parametrize(
    ("text", "steps"), [("20", 20), ("20.0", 20), ("2e1", 20), ("18446744073709551615", 2**64 - 1)]
)
def test_whole_numbers_may_be_written_with_a_point(text: str, steps: int) -> None:
    assert whole(text) == steps


@pytest.mark.parametrize("text", ["20.5", "many", "nan", "inf", ""])
def test_other_texts_are_no_whole_numbers(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid literal|could not convert"):
        whole(text)
