"""A real server on a port with the plugin and two tiny checkpoints, for clients that speak HTTP."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import latentd_openai
import pytest
from openai import OpenAI

from latentd.api import hookimpl
from latentd.testing import AppFactory, tiny_models

sys.path.insert(0, str(Path(__file__).parent))

from openai_requests import KEY, listening

FAMILIES: tuple[tiny_models.Family, ...] = ("sd1", "sdxl")


class Watcher:
    """A plugin that remembers each generation's plan."""

    def __init__(self) -> None:
        self.plans: list[Any] = []

    @hookimpl
    def after_process(self, generation: Any, result: Any) -> None:
        self.plans.append(generation.plan)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny checkpoints, one a family; not to be changed."""
    folder = tmp_path_factory.mktemp("weights")
    for family in FAMILIES:
        tensors = tiny_models.checkpoint(family, vae_widths=tiny_models.EIGHTH)
        tiny_models.write(folder / f"{family}.safetensors", tensors)
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[SimpleNamespace]:
    """``url``, ``client`` (a test client), ``plans`` and the host, of one server for the whole run."""
    data = tmp_path_factory.mktemp("data")
    models = data / "models/Stable-diffusion"
    models.mkdir(parents=True)
    for file in weights.iterdir():
        (models / file.name).symlink_to(file)
    factory, watcher = AppFactory(data), Watcher()
    client = factory([latentd_openai, watcher], ["--api-key", KEY, "--api-auth", "me:secret"])
    client.headers["Authorization"] = f"Bearer {KEY}"
    options = {"randn_source": "CPU", "sd_model_checkpoint": "sd1", "openai_steps": 4, "openai_sampler": "Euler"}
    assert client.post("/sdapi/v1/options", json=options).status_code == 200
    with listening(client) as port:
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}", client=client, plans=watcher.plans, data=data)
    factory.close()


@pytest.fixture
def sdk(server: SimpleNamespace) -> Iterator[OpenAI]:
    """OpenAI's own client."""
    with OpenAI(api_key=KEY, base_url=f"{server.url}/v1", max_retries=0) as client:
        yield client
