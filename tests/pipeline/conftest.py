"""Generations in this process, on the reference models, in a data folder that may be written to."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from latentd.server.services import AppServices, create_services
from latentd.settings import parse_settings
from latentd.types import GenerationRequest, Result

Draw = Callable[..., Result]
BASE: dict[str, Any] = {"prompt": "a red circle", "steps": 2, "width": 64, "height": 64, "seed": 7}


@pytest.fixture(scope="module")
def data(reference_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the reference models; folders of further kinds may be added below ``models``."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "models").mkdir()
    for kind in (reference_data / "models").iterdir():
        (folder / "models" / kind.name).symlink_to(kind)
    (folder / "embeddings").symlink_to(reference_data / "embeddings")
    shutil.copy(reference_data / "styles.csv", folder)
    return folder


def services_on(
    folder: Path, *flags: str, plugins: Sequence[tuple[str, object]] = (), checkpoint: str = "tiny-a.safetensors"
) -> AppServices:
    """The services of a server without HTTP: torch's CPU noise, the core and ``plugins`` only."""
    settings = parse_settings(["--data-dir", str(folder), "--core-only", *flags], environment={})
    services = create_services(settings, extra_plugins=plugins, serve_http=False)
    services.options.update({"randn_source": "CPU", "sd_model_checkpoint": checkpoint})
    return services


@pytest.fixture(scope="module")
def services(data: Path) -> Iterator[AppServices]:
    services = services_on(data)
    yield services
    services.close()


@pytest.fixture
def draw(services: AppServices) -> Draw:
    """Draws the base request: ``draw({option: value}, field=value)``."""
    return drawing_on(services)


def drawing_on(services: AppServices) -> Draw:
    def draw(options: dict[str, Any] | None = None, /, **fields: Any) -> Result:
        request = GenerationRequest(**{**BASE, "override_settings": options or {}, **fields})
        return asyncio.run(services.generate(request))

    return draw
