"""Flags of devices and precision on a CPU: whole generations, text to picture."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.pipeline.conftest import Draw, drawing_on, services_on

from latentd.errors import LatentdError

SMALL = {"width": 32, "height": 32, "steps": 2}
#: A CPU without arithmetic of its own for halves takes a hundred times as long for a convolution.
TINY = {**SMALL, "width": 16, "height": 16}
HIRES = {"enable_hr": True, "hr_scale": 2.0, "hr_upscaler": "Lanczos", "denoising_strength": 0.5}


@contextmanager
def server(data: Path, *flags: str) -> Iterator[tuple[Any, Draw]]:
    services = services_on(data, *flags)
    try:
        yield services, drawing_on(services)
    finally:
        services.close()


def pixels(data: Path, *flags: str, **fields: Any) -> Any:
    with server(data, *flags) as (_, draw):
        return np.asarray(draw(**SMALL, **fields).images[0].image, dtype=int)


@pytest.fixture(scope="module")
def plain(data: Path) -> Any:
    return pixels(data, prompt="a <lora:tinylora1:1> circle")


@pytest.mark.parametrize(
    "flags",
    [
        ["--use-cpu", "all"],
        ["--direct-convolution"],
        ["--medvram"],
        ["--lowvram"],
        ["--no-half", "--precision", "full"],
        ["--precision", "half"],
        ["--upcast-sampling", "--opt-channelslast"],
        ["--opt-sdp-attention", "--opt-sub-quad-attention", "--xformers", "--opt-split-attention-v1"],
    ],
    ids=" ".join,
)
def test_a_cpu_draws_the_same_under_flags_of_accelerators(data: Path, plain: Any, flags: list[str]) -> None:
    drawn = pixels(data, *flags, prompt="a <lora:tinylora1:1> circle")
    assert np.abs(drawn - plain).max() <= 1


def drawings(data: Path, *flags: str) -> list[Any]:
    """A picture with networks, and one of two passes."""
    requests = ({"prompt": "a <lora:tinylora1:1> circle <hypernet:tinyhyper:1> tinyti"}, HIRES)
    with server(data, *flags) as (_, draw):
        return [np.asarray(draw(**TINY, **fields).images[0].image, dtype=int) for fields in requests]


@pytest.fixture(scope="module")
def whole(data: Path) -> list[Any]:
    return drawings(data)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_other_dtypes_draw_nearly_the_same(data: Path, whole: list[Any], dtype: str) -> None:
    for exact, drawn in zip(whole, drawings(data, "--dtype", dtype), strict=True):
        assert 0 < np.abs(drawn - exact).mean() < 12


def test_fp8_with_halves(data: Path) -> None:
    with server(data, "--dtype", "bf16") as (services, draw):
        drawn = draw({"fp8_storage": "Enable", "cache_fp16_weight": True}, prompt="a <lora:tinylora1:1>", **TINY)
        assert "FP8 weight: Enable" in str(drawn.images[0].infotext)
        with services.models.lease() as model:
            assert model.dtype == torch.bfloat16


def nan_unet(services: Any) -> Any:
    with services.models.lease() as model:
        return model.unet.conv_out.register_forward_hook(lambda module, args, out: out * float("nan"))


def test_disable_nan_check(data: Path) -> None:
    with server(data) as (services, draw):
        handle = nan_unet(services)
        with pytest.raises(LatentdError, match="all NaNs was produced in Unet"):
            draw(**SMALL)
        handle.remove()
    with server(data, "--disable-nan-check") as (services, draw):
        handle = nan_unet(services)
        assert len(draw(**SMALL).images) == 1
        handle.remove()


def test_unloading_and_loading_again_with_parts_that_take_turns(data: Path, plain: Any) -> None:
    with server(data, "--medvram") as (services, draw):
        asyncio.run(services.unload_models())
        drawn = draw(prompt="a <lora:tinylora1:1> circle", **SMALL)
        assert np.abs(np.asarray(drawn.images[0].image, dtype=int) - plain).max() <= 1
