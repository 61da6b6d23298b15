"""Requests at random, over everything that an infotext can carry: for holding what is written against what is read."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from latentd.sampling.catalogue import SAMPLERS_1_8, SAMPLERS_LATER, SCHEDULERS

Body = dict[str, Any]

_WORDS = (
    "a red circle",
    "(bright:1.2) square",
    "[ring:star:0.5]",
    "tinyti",
    "naïve 猫",
    'a "quoted" word',
    "BREAK wood",
)
_MARKS = (", ", " ", ",\n", ": ", " # not a comment ")
_NETWORKS = ("<lora:tinylora1:0.7>", "<lora:tinyloha:1>", "<hypernet:tinyhyper:0.5>")
_NEGATIVES = ("", "", "blurry", "tiny-neg, fog", "grey: (dull:1.3)", "a,b\nc")
_SIDES = (48, 64, 72, 80)
_SCHEDULES = (None, None, *(name for spec in SCHEDULERS for name in (spec.label, spec.name)))
_SAMPLERS = [spec.name for spec in (*SAMPLERS_1_8, *SAMPLERS_LATER)] + ["Euler SGM Uniform", "Heun Simple"]

#: What the original writes into infotexts and reads back, by option, with values other than its default.
OPTIONS: Mapping[str, Sequence[Any]] = {
    "CLIP_stop_at_last_layers": (2, 3),
    "randn_source": ("NV", "GPU"),
    "eta_noise_seed_delta": (31337,),
    "sd_vae": ("det-vae.safetensors", "alt-vae.safetensors"),
    "tiling": (True,),
    "token_merging_ratio": (0.3, 0.5),
    "token_merging_ratio_hr": (0.4,),
    "s_churn": (3.0,),
    "s_tmin": (0.2,),
    "s_tmax": (9.0,),
    "s_noise": (1.02,),
    "eta_ancestral": (0.4,),
    "eta_ddim": (0.6,),
    "k_sched_type": ("karras", "exponential", "polyexponential"),
    "sigma_min": (0.1,),
    "sigma_max": (9.0,),
    "rho": (4.0,),
    "always_discard_next_to_last_sigma": (True,),
    "sgm_noise_multiplier": (True,),
    "sd_model_checkpoint": ("tiny-b", "tiny-inpainting"),
    "sd_noise_schedule": ("Zero Terminal SNR",),
    "use_downcasted_alpha_bar": (True,),
    "use_old_scheduling": (True,),
    "pad_cond_uncond": (True,),
    "pad_cond_uncond_v0": (True,),
    "emphasis": ("None", "Ignore"),
    "s_min_uncond_all": (True,),
    "skip_early_cond": (0.4,),
    "beta_dist_alpha": (0.3,),
    "beta_dist_beta": (0.8,),
    "refiner_switch_by_sample_steps": (True,),
    "hires_fix_refiner_pass": ("first pass", "both passes"),
    "inpainting_mask_weight": (0.5,),
    "img2img_extra_noise": (0.2,),
    "hypertile_enable_unet": (True,),
}

CARRIED_BY_THE_REQUEST = ("init_images", "mask", "resize_mode")
"""What an infotext does not say: a request that repeats a picture gives these again."""


def random_request(rng: random.Random, picture: Callable[[], str], mask: Callable[[], str]) -> Body:
    """A body of txt2img, or of img2img where it has ``init_images``; ``picture`` and ``mask`` give base64 texts."""
    styles = rng.choice(([], [], ["shiny"], ["append", "shiny"]))
    body: Body = {
        # A comment at the end of a prompt takes the style with it that is put behind it.
        "prompt": _prompt(rng, comments=not styles),
        "negative_prompt": rng.choice(_NEGATIVES),
        "seed": rng.randrange(2**32),
        "steps": rng.randint(2, 4),
        "cfg_scale": rng.choice((1.0, 4.5, 7)),
        "width": rng.choice(_SIDES),
        "height": rng.choice(_SIDES),
        "sampler_name": rng.choice(_SAMPLERS),
        "scheduler": rng.choice(_SCHEDULES),
        "styles": styles,
        "override_settings": _options(rng),
    }
    _sometimes(rng, body, 0.2, {"subseed": rng.randrange(2**32), "subseed_strength": rng.choice((0.3, 1.0))})
    _sometimes(rng, body, 0.2, {"seed_resize_from_w": rng.choice((64, 96)), "seed_resize_from_h": rng.choice((48, 80))})
    _sometimes(rng, body, 0.2, {"eta": rng.choice((0.0, 0.5, 1.0))})
    _sometimes(rng, body, 0.2, {"s_min_uncond": 5.0})
    _sometimes(rng, body, 0.2, {"refiner_checkpoint": "tiny-b", "refiner_switch_at": rng.choice((0.0, 0.4, 0.8))})
    if rng.random() < 0.35:
        body |= _img2img(rng, picture, mask)
    elif rng.random() < 0.6:
        body |= _hires(rng)
    return body


def repeated(body: Body, infotext: str) -> Body:
    """The request for the picture that ``infotext``, written for ``body``, tells."""
    kept = {key: body[key] for key in CARRIED_BY_THE_REQUEST if key in body}
    return {**kept, "infotext": infotext}


def _prompt(rng: random.Random, *, comments: bool = True) -> str:
    text = rng.choice(_MARKS if comments else _MARKS[:-1]).join(rng.sample(_WORDS, rng.randint(1, 3)))
    return text + (f" {rng.choice(_NETWORKS)}" if rng.random() < 0.2 else "")


def _options(rng: random.Random) -> Body:
    options = {key: rng.choice(OPTIONS[key]) for key in rng.sample(sorted(OPTIONS), rng.randint(0, 6))}
    # A model that predicts noise has nothing to predict where the schedule ends in pure noise.
    return options | ({"sd_model_checkpoint": "tiny-vpred"} if "sd_noise_schedule" in options else {})


def _sometimes(rng: random.Random, body: Body, share: float, fields: Body) -> None:
    if rng.random() < share:
        body |= fields


def _hires(rng: random.Random) -> Body:
    body: Body = {
        "enable_hr": True,
        "denoising_strength": rng.choice((0.4, 0.75)),
        "hr_upscaler": rng.choice(("Latent", "Latent (bicubic antialiased)", "Lanczos", None)),
    }
    resize = {"hr_resize_x": rng.choice((0, 96)), "hr_resize_y": rng.choice((96, 112))}
    body |= rng.choice(({"hr_scale": 1.5}, resize))
    _sometimes(rng, body, 0.4, {"hr_sampler_name": rng.choice(_SAMPLERS)})
    _sometimes(rng, body, 0.4, {"hr_scheduler": rng.choice(_SCHEDULES)})
    _sometimes(rng, body, 0.3, {"hr_second_pass_steps": 2})
    _sometimes(rng, body, 0.2, {"hr_prompt": _prompt(rng, comments=False)})
    _sometimes(rng, body, 0.2, {"hr_negative_prompt": rng.choice(('"loud"', "64x64", "a: b, c"))})
    _sometimes(rng, body, 0.2, {"hr_checkpoint_name": "tiny-b"})
    return body


def _img2img(rng: random.Random, picture: Callable[[], str], mask: Callable[[], str]) -> Body:
    body: Body = {"init_images": [picture()], "denoising_strength": rng.choice((0.3, 0.8, 1.0))}
    _sometimes(rng, body, 0.3, {"initial_noise_multiplier": 0.8})
    _sometimes(rng, body, 0.3, {"resize_mode": rng.choice((1, 2, 3))})
    if rng.random() < 0.6:
        whole = rng.random() < 0.5
        body |= {"mask": mask(), "mask_blur": rng.choice((1, 4)), "inpainting_fill": rng.randrange(4)}
        body |= {"inpaint_full_res": not whole, "inpainting_mask_invert": rng.randrange(2)}
        _sometimes(rng, body, 0.5, {} if whole else {"inpaint_full_res_padding": 8})
        _sometimes(rng, body, 0.3, {"alwayson_scripts": _soft(rng)})
    return body


def _soft(rng: random.Random) -> Body:
    return {"Soft Inpainting": {"args": [True, rng.choice((1, 2.5)), 0.4, rng.choice((4, 8)), 0.1, 0.5, 2]}}
