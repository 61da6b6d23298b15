"""Each option that affects a generation does: it changes the picture, the infotext, or both."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import pytest
from PIL import Image
from tests.e2e.calls import Drawing, as_text, difference, draw, input_text, opened
from tests.reference_server import ReferenceServer

INIT = {"init_images": [input_text("init128.png", (64, 64))], "denoising_strength": 0.6}
MASKED = {**INIT, "mask": input_text("mask128.png", (64, 64)), "inpaint_full_res": False, "mask_blur": 2}
HIRES = {"enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.6}
LONG = "a red circle, " * 25


@dataclass(frozen=True)
class Case:
    """``options`` beside a request with ``fields``; ``text`` is new in the infotext, ``same`` leaves the picture."""

    options: dict[str, Any]
    fields: dict[str, Any] = field(default_factory=dict)
    text: str | None = None
    same: bool = False


CASES = {
    "CLIP_stop_at_last_layers": Case({"CLIP_stop_at_last_layers": 2}, text="Clip skip: 2"),
    "emphasis": Case({"emphasis": "None"}, {"prompt": "a (red:1.6) circle"}, "Emphasis: None"),
    "enable_emphasis": Case({"enable_emphasis": False}, {"prompt": "a (red:1.6) circle"}),
    "comma_padding_backtrack": Case(
        {"comma_padding_backtrack": 0}, {"prompt": "word " * 70 + ", one two three four five"}
    ),
    "use_old_emphasis_implementation": Case({"use_old_emphasis_implementation": True}, {"prompt": LONG}),
    "enable_prompt_comments": Case({"enable_prompt_comments": False}, {"prompt": "a circle # in blue"}, "# in blue"),
    "pad_cond_uncond": Case({"pad_cond_uncond": True}, {"prompt": LONG}, "Pad conds: True"),
    "pad_cond_uncond_v0": Case(
        {"pad_cond_uncond_v0": True}, {"prompt": LONG, "sampler_name": "DDIM"}, "Pad conds v0: True"
    ),
    "randn_source": Case({"randn_source": "NV"}, text="RNG: NV"),
    "eta_noise_seed_delta": Case({"eta_noise_seed_delta": 31337}, {"sampler_name": "Euler a"}, "ENSD: 31337"),
    "eta_ancestral": Case({"eta_ancestral": 0.3}, {"sampler_name": "Euler a"}, "Eta: 0.3"),
    "eta_ddim": Case({"eta_ddim": 0.9}, {"sampler_name": "DDIM"}, "Eta DDIM: 0.9"),
    "enable_quantization": Case({"enable_quantization": True}, {"steps": 3}),
    "tiling": Case({"tiling": True}, text="Tiling: True"),
    "sd_vae": Case({"sd_vae": "alt-vae.safetensors"}, text="VAE: alt-vae.safetensors"),
    "sd_model_checkpoint": Case({"sd_model_checkpoint": "tiny-b.safetensors"}, text="Model: tiny-b"),
    "k_sched_type": Case({"k_sched_type": "karras"}, {"steps": 3}, "Schedule type: karras"),
    "sigma_max": Case({"k_sched_type": "karras", "sigma_max": 5.0}, {"steps": 3}, "Schedule max sigma: 5.0"),
    "sigma_min": Case({"k_sched_type": "karras", "sigma_min": 0.2}, {"steps": 3}, "Schedule min sigma: 0.2"),
    "rho": Case({"k_sched_type": "karras", "rho": 3.0}, {"steps": 3}, "Schedule rho: 3.0"),
    "always_discard_next_to_last_sigma": Case(
        {"always_discard_next_to_last_sigma": True}, {"steps": 3}, "Discard penultimate sigma: True"
    ),
    "use_old_karras_scheduler_sigmas": Case(
        {"use_old_karras_scheduler_sigmas": True}, {"steps": 3, "sampler_name": "DPM++ 2M Karras"}
    ),
    "no_dpmpp_sde_batch_determinism": Case(
        {"no_dpmpp_sde_batch_determinism": True}, {"steps": 3, "sampler_name": "DPM++ SDE"}
    ),
    "sgm_noise_multiplier": Case({"sgm_noise_multiplier": True}, text="SGM noise multiplier: True"),
    "uni_pc_variant": Case({"uni_pc_variant": "vary_coeff"}, {"sampler_name": "UniPC", "steps": 5}),
    "uni_pc_skip_type": Case({"uni_pc_skip_type": "logSNR"}, {"sampler_name": "UniPC", "steps": 5}),
    "uni_pc_order": Case({"uni_pc_order": 1}, {"sampler_name": "UniPC", "steps": 5}),
    "uni_pc_lower_order_final": Case({"uni_pc_lower_order_final": False}, {"sampler_name": "UniPC", "steps": 5}),
    "sd_noise_schedule": Case({"sd_noise_schedule": "Zero Terminal SNR"}, text="Noise Schedule: Zero Terminal SNR"),
    "use_downcasted_alpha_bar": Case({"use_downcasted_alpha_bar": True}, text="Downcast alphas_cumprod: True"),
    "use_old_scheduling": Case(
        {"use_old_scheduling": True},
        {"prompt": "a [red:blue:1.0] circle", "steps": 4},
        "Old prompt editing timelines: True",
    ),
    "token_merging_ratio": Case({"token_merging_ratio": 0.5}, text="Token merging ratio: 0.5"),
    "token_merging_ratio_img2img": Case({"token_merging_ratio_img2img": 0.5}, INIT, "Token merging ratio: 0.5"),
    "token_merging_ratio_hr": Case({"token_merging_ratio_hr": 0.5}, HIRES, "Token merging ratio hr: 0.5"),
    "img2img_extra_noise": Case({"img2img_extra_noise": 0.3}, INIT, "Extra noise: 0.3"),
    "img2img_color_correction": Case({"img2img_color_correction": True}, INIT),
    "img2img_fix_steps": Case({"img2img_fix_steps": True}, {**INIT, "steps": 4}),
    "img2img_background_color": Case(
        {"img2img_background_color": "#000000"}, {**INIT, "init_images": [input_text("init128alpha.png", (64, 64))]}
    ),
    "upscaler_for_img2img": Case(
        {"upscaler_for_img2img": "Nearest"}, {**INIT, "init_images": [input_text("init128.png", (32, 32))]}
    ),
    "overlay_inpaint": Case({"overlay_inpaint": False}, MASKED),
    "inpainting_mask_weight": Case(
        {"inpainting_mask_weight": 0.2, "sd_model_checkpoint": "tiny-inpainting.safetensors"},
        MASKED,
        "Conditional mask weight: 0.2",
    ),
    "use_old_hires_fix_width_height": Case(
        {"use_old_hires_fix_width_height": True}, {**HIRES, "steps": 1, "hr_scale": 1.0}
    ),
    "hires_fix_use_firstpass_conds": Case(
        {"hires_fix_use_firstpass_conds": True},
        {**HIRES, "prompt": "a <lora:tinylora1:2>circle", "hr_prompt": "a circle"},
    ),
    "sd_lora": Case({"sd_lora": "tinylora1"}, text="<lora:tinylora1:1.0>"),
    "sd_hypernetwork": Case({"sd_hypernetwork": "tinyhyper"}, text="<hypernet:tinyhyper:1.0>"),
    "extra_networks_default_multiplier": Case(
        {"sd_lora": "tinylora1", "extra_networks_default_multiplier": 0.5}, text="<lora:tinylora1:0.5>"
    ),
    "skip_early_cond": Case({"skip_early_cond": 0.5}, {"steps": 4}, "Skip Early CFG: 0.5"),
    "hires_fix_refiner_pass": Case(
        {"hires_fix_refiner_pass": "first pass"},
        {**HIRES, "refiner_checkpoint": "tiny-b", "refiner_switch_at": 0.5, "steps": 4},
        "Hires refiner: first pass",
    ),
    "refiner_switch_by_sample_steps": Case(
        {"refiner_switch_by_sample_steps": True},
        {"refiner_checkpoint": "tiny-b", "refiner_switch_at": 0.6, "steps": 4},
        "Refiner switch by sampling steps: True",
    ),
    "upcast_attn": Case({"upcast_attn": True}, same=True),
    "batch_cond_uncond": Case({"batch_cond_uncond": False}, same=True),
}


#: Pictures without options, by what was asked for: many cases share one.
_WITHOUT: dict[str, Drawing] = {}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_option_acts(live: ReferenceServer, case: Case) -> None:
    key = repr(case.fields)
    without = _WITHOUT[key] = _WITHOUT.get(key) or draw(live, **case.fields)
    given = draw(live, case.options, **case.fields)
    if case.text is not None:
        assert case.text in given.infotext
        assert case.text not in without.infotext
    if without.image.size == given.image.size:
        far = difference(without.image, given.image)
        assert far <= 1 if case.same else far > 0, far
    else:
        assert not case.same


# In 1.8 these are read from the standing options when a request comes in: overrides of them are too late.
STANDING = {
    "s_churn": ({"s_churn": 20.0}, "Sigma churn: 20.0"),
    "s_noise": ({"s_churn": 20.0, "s_noise": 1.1}, "Sigma noise: 1.1"),
    "s_tmin": ({"s_churn": 20.0, "s_tmin": 5.0}, "Sigma tmin: 5.0"),
    "s_tmax": ({"s_churn": 20.0, "s_tmax": 8.0}, "Sigma tmax: 8.0"),
    "s_min_uncond": ({"s_min_uncond": 12.0}, "NGMS: 12.0"),
    "initial_noise_multiplier": ({"initial_noise_multiplier": 0.7}, "Noise multiplier: 0.7"),
}
ZEROS = {
    "initial_noise_multiplier": 1.0,
    "s_churn": 0.0,
    "s_noise": 1.0,
    "s_tmin": 0.0,
    "s_tmax": 0.0,
    "s_min_uncond": 0.0,
}


@pytest.mark.parametrize("key", STANDING)
def test_standing_option_acts(live: ReferenceServer, key: str) -> None:
    options, text = STANDING[key]
    rest = {name: value for name, value in options.items() if name != key}
    try:
        live.call("POST", "/sdapi/v1/options", rest)
        fields = INIT if key == "initial_noise_multiplier" else {}
        without = draw(live, steps=5, **fields)
        live.call("POST", "/sdapi/v1/options", options)
        given = draw(live, steps=5, **fields)
    finally:
        live.call("POST", "/sdapi/v1/options", ZEROS)
    assert text in given.infotext
    assert text not in without.infotext
    assert difference(without.image, given.image) > 0


def test_return_mask_and_composite(live: ReferenceServer) -> None:
    both = draw(live, {"return_mask": True, "return_mask_composite": True}, **MASKED)
    assert [image.mode for image in both.images] == ["RGB", "RGB", "RGBA"]
    assert len(draw(live, **MASKED).images) == 1


def test_disable_weights_auto_swap(live: ReferenceServer) -> None:
    infotext = draw(live, {"sd_model_checkpoint": "tiny-b.safetensors"}).infotext
    assert "Model: tiny-a" in draw(live, infotext=infotext).infotext
    live.call("POST", "/sdapi/v1/options", {"disable_weights_auto_swap": False})
    try:
        assert "Model: tiny-b" in draw(live, infotext=infotext).infotext
    finally:
        live.call("POST", "/sdapi/v1/options", {"disable_weights_auto_swap": True})


def test_override_lasts_when_asked_to(live: ReferenceServer) -> None:
    try:
        draw(live, {"CLIP_stop_at_last_layers": 2}, override_settings_restore_afterwards=False)
        assert "Clip skip: 2" in draw(live).infotext
    finally:
        live.call("POST", "/sdapi/v1/options", {"CLIP_stop_at_last_layers": 1})
    assert "Clip skip" not in draw(live).infotext


def test_sd_vae_beside_the_checkpoint(live: ReferenceServer, plain: Any) -> None:
    """``sd_vae_overrides_per_model_preferences`` off: a VAE of the checkpoint's name wins over ``sd_vae``."""
    folder = live.data / "models" / "VAE"
    beside = folder / "tiny-a.vae.safetensors"
    beside.symlink_to(folder / "alt-vae.safetensors")
    try:
        live.call("POST", "/sdapi/v1/refresh-vae", {})
        chosen = {"sd_vae": "None", "sd_vae_overrides_per_model_preferences": False}
        assert "VAE: tiny-a.vae.safetensors" in draw(live, chosen).infotext
        assert "VAE:" not in draw(live, chosen | {"sd_vae_overrides_per_model_preferences": True}).infotext
    finally:
        beside.unlink()
        live.call("POST", "/sdapi/v1/refresh-vae", {})


def test_models_kept_in_memory(live: ReferenceServer) -> None:
    """``sd_checkpoints_limit``: with two, going back to the first loads nothing."""
    live.call("POST", "/sdapi/v1/options", {"sd_checkpoints_limit": 2})
    try:
        pictures = [draw(live, {"sd_model_checkpoint": f"tiny-{name}.safetensors"}) for name in "aba"]
    finally:
        live.call("POST", "/sdapi/v1/options", {"sd_checkpoints_limit": 1})
    assert difference(pictures[0].image, pictures[2].image) == 0
    assert difference(pictures[0].image, pictures[1].image) > 0


def test_a_mask_of_nothing_keeps_the_picture(live: ReferenceServer) -> None:
    black = as_text(Image.new("RGB", (64, 64)))
    drawing = draw(live, **{**MASKED, "mask": black})
    assert difference(drawing.image, opened(base64.b64decode(INIT["init_images"][0]))) == 0


def test_seeds_of_64_bits_without_a_sign(live: ReferenceServer) -> None:
    largest = draw(live, seed=2**64 - 1, batch_size=2, subseed=2**64 - 1, subseed_strength=0.0)
    assert largest.info["all_seeds"] == [2**64 - 1, 2**64]
    assert f"Seed: {2**64 - 1}," in largest.infotext
    assert difference(largest.images[1], draw(live, seed=0).image) <= 1
    # torch's generator on a CPU counts 32 of the bits.
    assert difference(largest.images[0], draw(live, seed=2**32 - 1).image) <= 1
    assert difference(largest.images[0], largest.images[1]) > 10
