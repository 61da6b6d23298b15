"""Generations in this process on random models so small that one takes a tenth of a second: for tests of one stage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.pipeline.conftest import drawing_on, services_on

from latentd.api import hookimpl
from latentd.generations import Plan
from latentd.pipeline.planning.build import build_plan
from latentd.server.services import AppServices
from latentd.types import GenerationRequest, Result

SIZE = 64
Draw = Callable[..., Result]


class Latents:
    """A plugin that keeps the latents [B,4,h,w] of each batch as they were sampled."""

    def __init__(self) -> None:
        self.batches: list[torch.Tensor] = []

    @hookimpl
    def after_sample(self, generation: Any, latents: torch.Tensor) -> None:
        self.batches.append(latents.clone())

    def of(self, draw: Draw, options: dict[str, Any] | None = None, /, **fields: Any) -> torch.Tensor:
        """The latents of the one batch of a generation."""
        self.batches.clear()
        draw(options, **fields)
        (batch,) = self.batches
        return batch


@pytest.fixture(scope="session")
def latents() -> Latents:
    return Latents()


@pytest.fixture(scope="session")
def services(tiny_data: Path, latents: Latents) -> Iterator[AppServices]:
    services = services_on(tiny_data, plugins=[("latents", latents)], checkpoint="base.safetensors")
    yield services
    services.close()


@pytest.fixture
def draw(services: AppServices) -> Draw:
    """Draws the base request: ``draw({option: value}, field=value)``."""
    return drawing_on(services)


@pytest.fixture
def plan(services: AppServices) -> Callable[..., Plan]:
    """Plans a request: ``plan({option: value}, field=value)``."""

    def build(options: dict[str, Any] | None = None, /, **fields: Any) -> Plan:
        return build_plan(GenerationRequest(prompt="a", override_settings=options or {}, **fields), services)

    return build


def pixels(result: Result, index: int = 0) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Picture ``index`` of the reply, [h,w,3] of 0 to 255."""
    return np.asarray(result.images[index].image.convert("RGB")).astype(np.int16)


def same(one: Result, other: Result, *, index: int = 0, other_index: int = 0) -> bool:
    """Whether two pictures are the same, but for rounding where batches differ."""
    return int(np.abs(pixels(one, index) - pixels(other, other_index)).max()) <= 1


def gradient(size: int = SIZE) -> Image.Image:
    """An RGB picture whose colours all differ: red from left to right, green from top to bottom."""
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    red, green = np.meshgrid(ramp, ramp)
    return Image.fromarray(np.stack([red, green, np.full_like(red, 128)], axis=-1))


def right_half(size: int = SIZE) -> Image.Image:
    """A mask that has the right half repainted."""
    mask = Image.new("L", (size, size), 0)
    mask.paste(255, (size // 2, 0, size, size))
    return mask


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)
