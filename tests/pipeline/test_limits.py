"""What is refused before anything is computed, whoever asks."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image
from tests.pipeline.conftest import BASE, services_on

from latentd.errors import InvalidRequest, LatentdError, TooLarge
from latentd.pipeline.planning.build import build_plan
from latentd.pipeline.planning.limits import check_prompts, check_request
from latentd.server.services import AppServices
from latentd.settings import Settings
from latentd.types import GenerationRequest

SETTINGS = Settings()


@pytest.mark.parametrize(
    "fields",
    [
        {"batch_size": 0},
        {"n_iter": -1},
        {"steps": 0},
        {"s_churn": -1.0},
        {"cfg_scale": 1e38},
        {"cfg_scale": float("nan")},
        {"mask_blur": 10**9},
        {"mask_blur_x": 5000},
        {"inpaint_full_res_padding": -1},
        {"enable_hr": True, "hr_resize_x": -128, "hr_resize_y": 128},
        {"enable_hr": True, "hr_scale": -2.0},
        {"enable_hr": True, "hr_second_pass_steps": -5},
        {"sampler_name": "x" * 5000},
        {"script_name": "<b>" * 5000},
        {"styles": ("x",) * 5000},
        {"styles": ("x" * 5000,)},
        {"override_settings": {f"key {n}": n for n in range(5000)}},
        {"alwayson_scripts": {f"script {n}": {} for n in range(5000)}},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_impossible_numbers_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_request(GenerationRequest(**fields), SETTINGS)
    culprit = list(fields)[1 if "enable_hr" in fields else 0].removesuffix("s")
    assert culprit in refused.value.detail
    assert len(refused.value.detail) < 200


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"batch_size": 2000}, "--max-images"),
        ({"steps": 100_000}, "--max-steps"),
        ({"width": 100_000, "height": 100_000}, "--max-image-mp"),
        ({"firstphase_width": 100_000, "firstphase_height": 100_000}, "--max-image-mp"),
        ({"seed_resize_from_w": 100_000, "seed_resize_from_h": 100_000}, "--max-image-mp"),
        ({"enable_hr": True, "hr_scale": 100.0}, "--max-image-mp"),
        ({"width": 900_000, "height": 64}, "--max-image-side"),
        ({"width": 64, "height": 64, "enable_hr": True, "hr_resize_x": 64, "hr_resize_y": 100_000}, "--max-image-side"),
        ({"enable_hr": True, "hr_resize_x": 200_000}, "--max-image-mp"),
        ({"width": 4096, "height": 4096, "batch_size": 32}, "--max-batch-mp"),
        ({"enable_hr": True, "hr_scale": 10.0, "batch_size": 16}, "--max-batch-mp"),
        ({"width": 4096, "height": 4096, "n_iter": 200}, "--max-total-mp"),
        ({"prompt": "word " * 1_000_000}, "--max-prompt-length"),
        ({"enable_hr": True, "hr_prompt": "word " * 1_000_000}, "--max-prompt-length"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_work_over_a_limit_is_refused_with_its_flag(fields: dict[str, Any], flag: str) -> None:
    with pytest.raises(TooLarge) as refused:
        check_request(GenerationRequest(**fields), SETTINGS)
    assert refused.value.hint == flag


def test_what_people_ask_for_is_within_the_limits() -> None:
    check_request(GenerationRequest(s_tmax=1e300, s_tmin=0.0, s_min_uncond=1e9), SETTINGS)
    check_request(GenerationRequest(mask_blur=64, inpaint_full_res_padding=256), SETTINGS)
    check_request(GenerationRequest(width=2048, height=2048, batch_size=8, n_iter=8, steps=150), SETTINGS)
    check_prompts(["a (red:1.2) fox, [day:night:0.5] AND [a|b] forest:0.7 BREAK <lora:x:1>"], [""], 150, SETTINGS)
    check_prompts([" ".join(f"[cat {n}|dog {n}]" for n in range(50))], [""], 1000, SETTINGS)


@pytest.mark.parametrize(
    "prompt",
    [
        "x AND " * 3000,
        "BREAK " * 3000,
        "<lora:x:1>" * 1500,
        " ".join(f"[{'|'.join('abcdefghijk'[: 2 + n % 9])}]" + "word " * 50 for n in range(60)),
    ],
    ids=["parts", "chunks", "networks", "versions"],
)
def test_prompts_that_would_keep_the_server_busy_are_refused(prompt: str) -> None:
    with pytest.raises(TooLarge):
        check_prompts([prompt], [""], 1000, SETTINGS)


@pytest.mark.parametrize(
    ("fields", "culprit"),
    [
        ({"prompt": f"a (fox:{'9' * 400})"}, "(fox) has the weight inf"),
        ({"prompt": "a (fox:123456)"}, "(fox) has the weight 123456"),
        ({"negative_prompt": f"{'(' * 200}fox{')' * 200}"}, "(fox) has the weight"),
        ({"enable_hr": True, "hr_scale": 1.0, "hr_prompt": "a (fox:123456)"}, "(fox) has the weight"),
        ({"prompt": f"a fox:{'9' * 400} AND b"}, "'a fox' has the weight inf"),
        ({"prompt": "a fox:-123456 AND b"}, "'a fox' has the weight -123456"),
        ({"prompt": "a <lora:tinylora1:nan>"}, "<lora:tinylora1:nan>"),
        ({"prompt": "a <lora:tinylora1:1e300>"}, "<lora:tinylora1:1e300>"),
        ({"prompt": "a <lora:tinylora1:1:unet=1e300>"}, "<lora:tinylora1:1:unet=1e300>"),
        ({"prompt": "a <hypernet:tinyhyper:1e999>"}, "<hypernet:tinyhyper:1e999>"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_weights_out_of_all_proportion_are_refused_with_their_name(
    services: AppServices, fields: dict[str, Any], culprit: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        build_plan(GenerationRequest(**{**BASE, **fields}), services)
    assert culprit in refused.value.detail


def test_weights_that_do_not_act_are_no_fault(services: AppServices) -> None:
    """A1111's grammar has no exponents, so that these are words; and the option may switch weights off."""
    for prompt in ("a (fox:1e308)", "a:1e308 AND b", "(fox:nan)"):
        build_plan(GenerationRequest(**{**BASE, "prompt": prompt}), services)
    off = {**BASE, "prompt": "a (fox:123456)", "override_settings": {"emphasis": "None"}}
    build_plan(GenerationRequest(**off), services)


@pytest.mark.parametrize("strength", [1e-320, 1e-9])
def test_exact_steps_of_an_endless_schedule(services: AppServices, strength: float) -> None:
    hires = GenerationRequest(**{**BASE, "enable_hr": True, "denoising_strength": strength})
    picture = Image.new("RGB", (64, 64))
    img2img = GenerationRequest(
        **{**BASE, "mode": "img2img", "init_images": (picture,), "denoising_strength": strength}
    )
    for request in (hires, replace(img2img, override_settings={"img2img_fix_steps": True})):
        with pytest.raises(InvalidRequest, match="denoising_strength"):
            build_plan(request, services)
        build_plan(replace(request, denoising_strength=0.01), services)
        build_plan(replace(request, denoising_strength=0.0), services)
    build_plan(img2img, services)


def test_a_picture_that_would_have_to_grow_to_be_cut(services: AppServices) -> None:
    strip = Image.new("RGB", (1, 60_000))
    request = GenerationRequest(**{**BASE, "mode": "img2img", "init_images": (strip,), "resize_mode": 1})
    with pytest.raises(TooLarge, match="64x3840000"):
        build_plan(request, services)
    build_plan(replace(request, resize_mode=0), services)


def test_an_infotext_longer_than_prompts_can_be(services: AppServices) -> None:
    from latentd.server.schemas.generation import Txt2ImgRequest

    for text in ("a " * 1_000_000, "a\n" * 1_000_000 + "Steps: 1, Seed: 1, Size: 8x8"):
        with pytest.raises(TooLarge, match="infotext"):
            asyncio.run(services.submit_body(Txt2ImgRequest(infotext=text)))


def test_negative_prompts_are_no_composition() -> None:
    check_prompts([""], ["x AND " * 3000], 20, SETTINGS)
    with pytest.raises(TooLarge):
        check_prompts([""], ["BREAK " * 3000], 20, SETTINGS)


@pytest.mark.parametrize(
    ("flag", "fields"),
    [
        ("--max-steps=1", {}),
        ("--max-images=1", {"n_iter": 2}),
        ("--max-image-mp=0.001", {}),
        ("--max-batch-mp=0.001", {}),
        ("--max-total-mp=0.001", {}),
        ("--max-prompt-length=5", {}),
        ("--max-prompt-parts=1", {"prompt": "a AND b"}),
    ],
)
def test_plugins_and_the_command_line_are_held_to_the_limits_too(data: Any, flag: str, fields: dict[str, Any]) -> None:
    """They hand requests to the services, past HTTP."""
    services: AppServices = services_on(data, flag)
    try:
        with pytest.raises(TooLarge) as refused:
            asyncio.run(services.generate(GenerationRequest(**{**BASE, **fields})))
    finally:
        services.close()
    assert refused.value.hint == flag.partition("=")[0]


def test_styles_that_double_the_prompt_end_at_a_limit(services: AppServices) -> None:
    book = services.styles
    style = replace(next(iter(book.by_name.values())), name="twice", prompt="{prompt} {prompt}")
    known = {**book.by_name, "twice": style}
    request = GenerationRequest(**{**BASE, "styles": ("twice",) * 40})
    frozen = _With(services, styles=_With(book, by_name=known))
    with pytest.raises(TooLarge):
        build_plan(request, frozen)


def test_more_init_images_than_the_batch_are_refused_before_one_is_decoded(services: AppServices) -> None:
    from latentd.server.schemas.generation import Img2ImgRequest

    body = Img2ImgRequest(init_images=["no picture at all"] * 100_000)
    with pytest.raises(LatentdError, match="bad number of images passed: 100000; expecting 1 or less"):
        asyncio.run(services.submit_body(body))


def test_a_plan_of_a_script_is_held_to_the_limits(services: AppServices) -> None:
    from latentd.pipeline.planning.replan import replan

    plan = build_plan(GenerationRequest(**BASE), services)
    with pytest.raises(TooLarge):
        replan(plan, replace(plan.request, steps=5000), services)
    with pytest.raises(TooLarge):
        replan(
            plan,
            replace(plan.request, mode="img2img", init_images=(Image.new("RGB", (8, 8)),), width=90_000, height=9_000),
            services,
        )


class _With:
    """``what`` with some attributes replaced."""

    def __init__(self, what: Any, **changes: Any) -> None:
        self.__dict__.update(changes)
        self._what = what

    def __getattr__(self, name: str) -> Any:
        return getattr(self._what, name)
