"""A plugin's exception or wrong value is told with the plugin and the place: in jobs, in planning, in routes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import BaseModel
from tests.pipeline.conftest import drawing_on, services_on

from latentd.api import (
    ExtraNetworkSpec,
    FaceRestorerSpec,
    InterrogatorSpec,
    PostprocessorSpec,
    Residuals,
    SamplerSpec,
    Script,
    UNetHook,
    UpscalerSpec,
    hookimpl,
)
from latentd.errors import PluginError
from latentd.pipeline.extras.run import ExtrasRequest, process
from latentd.pipeline.upscaling import caption_with
from latentd.server.services import AppServices


class Args(BaseModel):
    what: str = ""


class Frame(Script):
    """An always-on script whose methods give nonsense, one by one."""

    title, alwayson, Args = "Frame", True, Args

    def _nonsense(self, method: str, args: Args, value: Any) -> Any:
        if args.what == f"{method} raises":
            raise KeyError("on purpose")
        return "nonsense" if args.what == method else value

    def parse_args(self, args: Any, request: Any) -> Any:
        parsed = super().parse_args(args, request)
        return self._nonsense("parse_args", parsed, parsed)

    def plan(self, plan: Any, args: Args, services: Any) -> None:
        self._nonsense("plan", args, None)

    def unet_hooks(self, generation: Any, args: Args) -> Any:
        return self._nonsense("unet_hooks", args, [Hook(args.what)])

    def modify_noise(self, generation: Any, args: Args, noise: Any) -> Any:
        return self._nonsense("modify_noise", args, noise)

    def after_sample(self, generation: Any, args: Args, latents: Any) -> Any:
        return self._nonsense("after_sample", args, latents)

    def postprocess_image(self, generation: Any, args: Args, image: Any, index: int) -> Any:
        return self._nonsense("postprocess_image", args, image)


class Hook(UNetHook):
    """A UNet hook that gives nonsense in one of its methods."""

    def __init__(self, what: str) -> None:
        self.what = what

    def _nonsense(self, method: str, value: Any) -> Any:
        if self.what == f"hook {method} raises":
            raise KeyError("on purpose")
        return "nonsense" if self.what == f"hook {method}" else value

    def open(self, generation: Any) -> None:
        self._nonsense("open", None)

    def before(self, call: Any) -> None:
        self._nonsense("before", None)

    def residuals(self, call: Any) -> Residuals | None:
        return self._nonsense("residuals", None)  # type: ignore[no-any-return]

    def attention(self, site: Any) -> Any:
        return lambda call, hidden, context, attend: self._nonsense("attention handler", attend(hidden, context))

    def block(self, site: Any) -> Any:
        return lambda call, output: self._nonsense("block handler", output)

    def after(self, call: Any, out: Any) -> Any:
        return self._nonsense("after", out)

    def denoised(self, call: Any, x0: Any) -> Any:
        return self._nonsense("denoised", x0)

    def close(self) -> None:
        self._nonsense("close", None)


class Selectable(Script):
    """A selectable script that gives no result."""

    title = "Selectable"

    def run(self, services: Any, plan: Any, args: Any, control: Any) -> Any:
        return None


def _wrong(*arguments: Any) -> Any:
    return "nonsense"


class Plugin:
    """Everything at which a plugin can be wrong; the hooks of generations are, while ``what`` names them."""

    what = ""

    @hookimpl
    def register_scripts(self) -> list[Script]:
        return [Frame(), Selectable()]

    @hookimpl
    def register_samplers(self) -> list[SamplerSpec]:
        return [SamplerSpec(name="Wrong", function=_wrong)]

    @hookimpl
    def register_upscalers(self, services: Any) -> list[UpscalerSpec]:
        return [UpscalerSpec(name="Wrong", upscale=_wrong)]

    @hookimpl
    def register_face_restorers(self, services: Any) -> list[FaceRestorerSpec]:
        return [FaceRestorerSpec(name="GFPGAN", restore=_wrong)]

    @hookimpl
    def register_interrogators(self, services: Any) -> list[InterrogatorSpec]:
        return [InterrogatorSpec(name="wrong", interrogate=lambda image, context: 7)]  # type: ignore[arg-type, return-value]

    @hookimpl
    def register_postprocessors(self) -> list[PostprocessorSpec]:
        return [PostprocessorSpec(name="Wrong", order=1, run=_wrong)]

    @hookimpl
    def register_extra_networks(self) -> list[ExtraNetworkSpec]:
        def activate(generation: Any, tags: Any) -> None:
            if tags:
                raise KeyError("on purpose")

        return [ExtraNetworkSpec(name="wrong", activate=activate)]

    def _nonsense(self, hook: str) -> Any:
        if self.what == f"{hook} raises":
            raise KeyError("on purpose")
        return "nonsense" if self.what == hook else None

    @hookimpl
    def before_process(self) -> None:
        self._nonsense("before_process")

    @hookimpl
    def unet_hooks(self) -> Any:
        if self.what == "unet_hooks of strings":
            return ["nonsense"]
        return 7 if self.what == "unet_hooks" else None

    @hookimpl
    def modify_guidance(self) -> Any:
        return self._nonsense("modify_guidance")

    @hookimpl
    def after_sample(self) -> Any:
        return self._nonsense("after_sample")

    @hookimpl
    def postprocess_image(self) -> Any:
        return self._nonsense("postprocess_image")

    @hookimpl
    def infotext(self) -> Any:
        return self._nonsense("infotext")


@pytest.fixture(scope="module")
def plugin() -> Plugin:
    return Plugin()


@pytest.fixture(scope="module")
def blamed(data: Path, plugin: Plugin) -> Iterator[AppServices]:
    """Services with the plugin, which goes by the name of culprit."""
    services = services_on(data, plugins=[("culprit", plugin)])
    yield services
    services.close()


def fault(services: AppServices, **fields: Any) -> str:
    with pytest.raises(PluginError) as raised:
        drawing_on(services)(**fields)
    assert raised.value.plugin == "culprit"
    return raised.value.detail.removeprefix("plugin 'culprit' failed in ")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("before_process raises", "before_process: KeyError: 'on purpose'"),
        ("unet_hooks", "unet_hooks: TypeError: returned a value of type int, not a sequence of UNetHook"),
        (
            "unet_hooks of strings",
            "unet_hooks: TypeError: returned a sequence with a value of type str, not UNetHook objects",
        ),
        ("modify_guidance", "modify_guidance: TypeError: returned a value of type str, not a tensor [1, 4, 8, 8]"),
        ("after_sample", "after_sample: TypeError: returned a value of type str, not a tensor [1, 4, 8, 8]"),
        ("postprocess_image", "postprocess_image: TypeError: returned a value of type str, not a picture"),
        ("infotext", "infotext: TypeError: returned a value of type str, not a mapping"),
    ],
)
def test_hooks(blamed: AppServices, plugin: Plugin, what: str, words: str) -> None:
    plugin.what = what
    try:
        assert words in fault(blamed)
    finally:
        plugin.what = ""


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("parse_args raises", "script 'Frame', parse_args: KeyError: 'on purpose'"),
        ("plan raises", "script 'Frame', plan: KeyError: 'on purpose'"),
        ("unet_hooks raises", "script 'Frame', unet_hooks: KeyError: 'on purpose'"),
        ("modify_noise", "script 'Frame', modify_noise: TypeError: returned a value of type str, not a tensor"),
        ("after_sample", "script 'Frame', after_sample: TypeError: returned a value of type str, not a tensor"),
        ("postprocess_image", "script 'Frame', postprocess_image: TypeError: returned a value of type str"),
        ("hook open raises", "UNet hook Hook.open: KeyError"),
        ("hook before raises", "UNet hook Hook.before: KeyError"),
        ("hook residuals", "UNet hook Hook.residuals: TypeError: returned a value of type str, not Residuals"),
        ("hook attention handler raises", "UNet hook Hook.attention, its handler for "),
        ("hook attention handler", "TypeError: returned a value of type str, not a tensor"),
        ("hook block handler", "UNet hook Hook.block, its handler for input_blocks.0: TypeError: returned"),
        ("hook after", "UNet hook Hook.after: TypeError: returned a value of type str, not a tensor"),
        ("hook denoised", "UNet hook Hook.denoised: TypeError: returned a value of type str, not a tensor"),
        ("hook close raises", "UNet hook Hook.close: KeyError"),
    ],
)
def test_scripts_and_their_unet_hooks(blamed: AppServices, what: str, words: str) -> None:
    assert words in fault(blamed, alwayson_scripts={"Frame": {"args": [what]}})


def test_a_selectable_script(blamed: AppServices) -> None:
    words = fault(blamed, script_name="Selectable")
    assert words == "script 'Selectable', run: TypeError: returned a value of type NoneType, not a Result"


def test_samplers_and_networks(blamed: AppServices) -> None:
    assert "sampler 'Wrong': TypeError: returned a value of type str" in fault(blamed, sampler_name="Wrong")
    assert "extra network 'wrong': KeyError" in fault(blamed, prompt="a cat <wrong:1>")


def test_what_works_on_finished_pictures(blamed: AppServices) -> None:
    said = fault(blamed, enable_hr=True, hr_upscaler="Wrong", denoising_strength=0.5)
    assert said.startswith("upscaler 'Wrong': TypeError: returned a value of type str, not a picture")
    options = {"face_restoration_model": "GFPGAN"}
    assert "face restorer 'GFPGAN'" in fault(blamed, restore_faces=True, override_settings=options)

    def process_one(control: Any) -> Any:
        context = blamed.worker_context(control)
        return process(Image.new("RGB", (8, 8)), ExtrasRequest(), blamed.registry, context, max_pixels=10**6)

    def describe(control: Any) -> Any:
        registry = blamed.registry
        spec, context = registry.interrogators["wrong"], blamed.worker_context(control)
        return caption_with(registry, spec, Image.new("RGB", (8, 8)), context)

    for work, words in ((process_one, "postprocessor 'Wrong'"), (describe, "interrogator 'wrong'")):
        with pytest.raises(PluginError, match=words):
            asyncio.run(blamed.run_on_worker(work, kind="extras"))
