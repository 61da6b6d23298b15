"""Which model files a worker on another machine is told to have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.pipeline.conftest import BASE, services_on

from latentd.api import GenerationRequest, NoArgs, Plan, Script, Services, UpscalerSpec, hookimpl
from latentd.errors import PluginError
from latentd.pipeline.planning.build import build_plan
from latentd.pipeline.planning.needed_files import files_of_plan
from latentd.server.services import AppServices


class Reader(Script[NoArgs]):
    """Reads the files that it is made with."""

    alwayson = True

    def __init__(self, title: str, files: Sequence[str]) -> None:
        self.title = title
        self.files = files

    def model_files(self, services: Services, plan: Plan, args: NoArgs) -> Sequence[Path]:
        return [services.paths.data / name for name in self.files]


class Plugin:
    @hookimpl
    def register_scripts(self) -> list[Any]:
        inside = ["models/odd kind/sub/a.bin", "models/ControlNet/b.safetensors", "models/missing/c.bin"]
        return [Reader("reader", [*inside, "out.bin"]), Broken("broken", [])]

    @hookimpl
    def register_upscalers(self, services: Services) -> list[UpscalerSpec]:
        path = str(services.paths.models("ESRGAN")[0] / "up.pth")
        return [UpscalerSpec(name="Up", upscale=lambda image, scale, context: image, model_path=path)]


class Broken(Reader):
    def model_files(self, services: Services, plan: Plan, args: NoArgs) -> Sequence[Path]:
        raise RuntimeError("no list")


@pytest.fixture
def services(data: Path) -> Iterator[AppServices]:
    for name in (
        "models/odd kind/sub/a.bin",
        "models/ControlNet/b.safetensors",
        "models/ESRGAN/up.pth",
        "out.bin",
    ):
        path = data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    services = services_on(data, plugins=[("reader", Plugin())])
    yield services
    services.close()


def needed(services: AppServices, **fields: Any) -> list[tuple[str, str]]:
    plan = build_plan(GenerationRequest(**{**BASE, **fields}), services)
    found = files_of_plan(plan, services, services.hashes.sha256)
    assert all(file.sha256 == services.hashes.sha256(file.path) for file in found)
    return [(file.kind, file.name) for file in found if file.kind != "Stable-diffusion"]


def test_scripts_name_files_of_any_folder_of_models(services: AppServices) -> None:
    asked = {"alwayson_scripts": {"reader": {"args": []}}}
    assert needed(services) == []
    assert needed(services, **asked) == [("odd kind", "sub/a.bin"), ("ControlNet", "b.safetensors")]


def test_a_script_that_fails_is_named(services: AppServices) -> None:
    with pytest.raises(PluginError, match="script 'broken', model_files"):
        needed(services, alwayson_scripts={"broken": {"args": []}})


def test_upscalers_of_hires_fix_and_img2img_are_needed(services: AppServices) -> None:
    hires = {"enable_hr": True, "hr_upscaler": "Up", "denoising_strength": 0.5}
    assert needed(services, **hires) == [("ESRGAN", "up.pth")]
    pictures: dict[str, Any] = {"mode": "img2img", "init_images": (Image.new("RGB", (64, 64)),)}
    option = {"override_settings": {"upscaler_for_img2img": "Up"}}
    assert needed(services, **pictures) == []
    assert needed(services, **pictures, **option) == [("ESRGAN", "up.pth")]
