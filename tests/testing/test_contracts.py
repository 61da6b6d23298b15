"""The checks for plugin authors accept what is right and refuse what is wrong."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import APIRouter
from PIL import Image
from pydantic import BaseModel

from latentd.api import Script, UpscalerSpec, hookimpl
from latentd.sampling.catalogue import SAMPLERS_1_8, SAMPLERS_LATER
from latentd.testing import check_hooks, check_routers, check_sampler, check_script, check_upscaler


@pytest.mark.parametrize("spec", SAMPLERS_1_8 + SAMPLERS_LATER, ids=lambda spec: spec.name)
def test_every_sampler_of_the_core_keeps_the_contract(spec: Any) -> None:
    check_sampler(spec)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda denoiser, x, run: x, "away from what the model predicts"),
        (lambda denoiser, x, run: x[:1], "for"),
        (lambda denoiser, x, run: x / 0, "not finite"),
    ],
)
def test_a_sampler_that_does_not_sample_is_refused(function: Any, words: str) -> None:
    euler = next(spec for spec in SAMPLERS_1_8 if spec.name == "Euler")
    with pytest.raises(AssertionError, match=words):
        check_sampler(replace(euler, function=function))


def test_the_cores_upscalers_keep_the_contract() -> None:
    for spec in check_hooks(SimpleNamespace()).registry.upscalers.values():
        check_upscaler(spec)


@pytest.mark.parametrize(
    ("upscale", "words"),
    [
        (lambda image, scale, context: image.resize((8, 8)), r"gave \(8, 8\)"),
        (lambda image, scale, context: image.convert("L"), "mode L"),
        (lambda image, scale, context: Image.effect_noise(image.size, 50).convert("RGB"), "differ"),
    ],
)
def test_a_wrong_upscaler_is_refused(upscale: Any, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_upscaler(UpscalerSpec(name="wrong", upscale=upscale))


def script(title: str, args: type[BaseModel]) -> Script:
    made = Script()
    made.title, made.Args = title, args
    return made


def test_a_script_needs_a_title_and_defaults() -> None:
    class Fine(BaseModel):
        strength: float = 0.5

    class Demanding(BaseModel):
        strength: float

    check_script(script("Fine", Fine))
    with pytest.raises(AssertionError, match="title"):
        check_script(script("", Fine))
    with pytest.raises(AssertionError, match="without a default: strength"):
        check_script(script("Demanding", Demanding))


def with_routes(router: APIRouter) -> Any:
    @hookimpl
    def register_routes() -> list[APIRouter]:
        return [router]

    return SimpleNamespace(register_routes=register_routes)


def test_routes_are_listed_and_must_be_coroutines() -> None:
    fine, holding = APIRouter(prefix="/x"), APIRouter(prefix="/x")

    @fine.get("/{name}")
    async def quick(name: str) -> str:
        return name

    @holding.get("/slow")
    def slow() -> str:
        return ""

    assert check_routers(with_routes(fine)) == {("GET", "/x/{}")}
    with pytest.raises(AssertionError, match="async def"):
        check_routers(with_routes(holding))


def test_a_misspelt_hook_is_refused_with_its_traceback() -> None:
    @hookimpl
    def register_upscaler() -> list[Any]:
        return []

    with pytest.raises(AssertionError, match="did you mean 'register_upscalers'"):
        check_hooks(SimpleNamespace(register_upscaler=register_upscaler))


def test_the_fixture_serves_the_core_and_the_plugin(latentd_app: Any) -> None:
    router = APIRouter(prefix="/x/v1")

    @router.get("/hello")
    async def hello() -> str:
        return "hello"

    client = latentd_app(plugins=[with_routes(router)], flags=["--api-auth", "me:secret"])
    assert client.get("/x/v1/hello").status_code == 401
    assert client.get("/x/v1/hello", auth=("me", "secret")).json() == "hello"
    assert client.get("/sdapi/v1/sd-models", auth=("me", "secret")).json() == []
