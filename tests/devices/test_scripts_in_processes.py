"""Every script draws in a worker process what it draws in the server: what it was planned with can be sent there."""

from __future__ import annotations

import base64
import io
from importlib import import_module
from typing import Any

import pytest
from PIL import Image
from tests.devices.conftest import Serve, draw, pixels

from latentd.server.services import AppServices

PLUGINS = tuple(
    f"latentd_{name}" for name in ("tinymodel", "controlnet", "detailer", "facerestore", "guidance", "scripts")
)
#: Scripts that no generation runs: those of extras, those for AUTOMATIC1111's page, and those that are refused.
NONE_TO_RUN = {
    *("Upscale", "Simple Upscale", "GFPGAN", "CodeFormer"),
    *("API payload", "Comments", "Extra options", "Hypertile", "Refiner", "Sampler", "Seed"),
    *("controlnet m2m", "Custom code"),
}


def picture() -> Image.Image:
    drawn = Image.new("RGB", (64, 64), (200, 60, 20))
    drawn.paste((10, 90, 200), (16, 8, 48, 40))
    return drawn


def text(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def always(title: str, *args: Any) -> dict[str, Any]:
    return {"alwayson_scripts": {title: {"args": list(args)}}}


def selected(title: str, **args: Any) -> dict[str, Any]:
    return {"script_name": title, "script_args": args}


IMG2IMG: dict[str, Any] = {"mode": "img2img", "init_images": (picture(),), "denoising_strength": 0.6}
CONTROL = {"model": "latentd-tiny-canny", "module": "invert", "image": text(picture())}
#: What the request of each script has; the key is its title, or the beginning of it.
CASES: dict[str, dict[str, Any]] = {
    "ControlNet": {
        **always("ControlNet", CONTROL, {"module": "reference_only", "image": text(picture())}),
        "override_settings": {"sd_model_checkpoint": "latentd-tiny"},  # which the control model is for
    },
    "ADetailer": always("ADetailer", True, False, {"ad_model": "face_mtcnn"}),
    "DynamicThresholding": always("DynamicThresholding (CFG-Fix) Integrated", True),
    "FreeU": always("FreeU Integrated (SD 1.x, SD 2.x, SDXL)", True),
    "SelfAttention": always("SelfAttentionGuidance Integrated (SD 1.x, SD 2.x, SDXL)", True),
    "PerturbedAttention": always("PerturbedAttentionGuidance Integrated (SD 1.x, SD 2.x, SDXL)", True),
    "Kohya HRFix": always("Kohya HRFix Integrated", True),
    "RescaleCFG": always("RescaleCFG for reForge", True),
    "MultiDiffusion": always("MultiDiffusion Integrated (SD 1.x, SD 2.x, SDXL)", True),
    "Forge Couple": {"prompt": "a red circle\na blue square", **always("Forge Couple", True)},
    "Soft Inpainting": {**IMG2IMG, "mask": Image.new("L", (64, 64), 255), **always("Soft Inpainting", True)},
    "Dynamic Prompts": {"prompt": "a {red|blue} circle", **always("Dynamic Prompts v2.17.1", True)},
    "img2img alternative test": {**IMG2IMG, **selected("img2img alternative test", decode_steps=2)},
    "Loopback": {**IMG2IMG, **selected("Loopback", loops=2)},
    "Outpainting mk2": {**IMG2IMG, **selected("Outpainting mk2", pixels=32)},
    "Poor man's outpainting": {**IMG2IMG, **selected("Poor man's outpainting", pixels=16)},
    "Prompt matrix": {"prompt": "a circle|red", **selected("Prompt matrix")},
    "Prompts from file": selected("Prompts from file or textbox", prompt_txt="a circle\n--prompt square --seed 3"),
    "SD upscale": {**IMG2IMG, **selected("SD upscale", overlap=0, upscaler="Lanczos", scale_factor=1.5)},
    "Ultimate SD upscale": {
        **IMG2IMG,
        **selected("Ultimate SD upscale", tile_width=64, padding=0, target_size_type=1, custom_width=96),
    },
    "X/Y/Z plot": selected("X/Y/Z plot", x_type="Sampler", x_values="Euler, DDIM", y_type="Seed", y_values="1, 2"),
}


@pytest.fixture(scope="module")
def plugins() -> list[tuple[str, object]]:
    return [(name, import_module(name)) for name in PLUGINS]


@pytest.fixture(scope="module")
def alone(serve: Serve, plugins: list[tuple[str, object]]) -> AppServices:
    return serve(plugins=plugins)


@pytest.fixture(scope="module")
def process(serve: Serve, plugins: list[tuple[str, object]]) -> AppServices:
    return serve("--worker-processes", plugins=plugins)


def test_no_script_is_missing(alone: AppServices) -> None:
    left = set(alone.registry.scripts) - NONE_TO_RUN
    assert {title for title in left if not title.startswith(tuple(CASES))} == set()
    assert not {case for case in CASES if not any(title.startswith(case) for title in left)}


@pytest.mark.parametrize("case", CASES)
def test_a_script_draws_the_same_there(alone: AppServices, process: AppServices, case: str) -> None:
    fields = {"steps": 1, "subseed": 11, **CASES[case]}
    expected, found = draw(alone, **fields), draw(process, **fields)
    assert pixels(found) == pixels(expected)
    assert found.info["infotexts"] == expected.info["infotexts"]
