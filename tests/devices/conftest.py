"""Servers with several devices, on random models that draw a picture in a tenth of a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from latentd.server.services import AppServices, create_services
from latentd.settings import parse_settings
from latentd.types import GenerationRequest, Result

Serve = Callable[..., AppServices]
BASE: dict[str, Any] = {"prompt": "a red circle", "steps": 3, "width": 64, "height": 64, "seed": 7, "cfg_scale": 5.0}


def request(**fields: Any) -> GenerationRequest:
    return GenerationRequest(**{**BASE, **fields})


def draw(services: AppServices, **fields: Any) -> Result:
    return asyncio.run(services.generate(request(**fields)))


def pixels(result: Result) -> list[bytes]:
    return [picture.image.tobytes() for picture in result.images]


@pytest.fixture(scope="module")
def serve(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Makes servers without HTTP; each has a data folder of its own with the same models."""
    made: list[AppServices] = []

    def make(*flags: str, plugins: Sequence[tuple[str, object]] = ()) -> AppServices:
        folder = tmp_path_factory.mktemp("devices")
        (folder / "models").symlink_to(tiny_data / "models")
        settings = parse_settings(["--data-dir", str(folder), "--core-only", *flags], environment={})
        services = create_services(settings, extra_plugins=plugins, serve_http=False)
        services.options.update({"randn_source": "CPU", "sd_model_checkpoint": "base.safetensors"})
        made.append(services)
        return services

    yield make
    for services in made:
        services.close()


@pytest.fixture(scope="module")
def lone(serve: Serve) -> AppServices:
    """A server with one device, whose pictures are those of every other."""
    return serve()
