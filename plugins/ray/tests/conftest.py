"""A Ray cluster on this machine, which the servers of these tests share, and a tiny checkpoint."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import latentd_ray
import pytest
from latentd_ray import link

from latentd.testing import AppFactory, tiny_models

sys.path.insert(0, str(Path(__file__).parent))

from ray_servers import PATIENCE, Serve, put_model

# For Ray and its processes, before it is imported: nothing is reported, no token is kept in the home folder, and actors
# find the work of these tests.
os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (sys.path[0], os.environ.get("PYTHONPATH"))))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does much else lets an actor wait for longer than eight seconds."""
    monkeypatch.setattr(link, "SILENCE", PATIENCE)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=128 << 20,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        _system_config={"raylet_start_wait_time_s": int(PATIENCE)},
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "base.safetensors"
    return tiny_models.write(path, tiny_models.checkpoint("sd1", vae_widths=tiny_models.EIGHTH))


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Serve]:
    made: list[AppFactory] = []

    def start(*flags: str) -> Any:
        folder = tmp_path_factory.mktemp("server")
        put_model(folder, checkpoint)
        options = {"randn_source": "CPU", "samples_save": False, "show_progress_every_n_steps": 1}
        (folder / "config.json").write_text(json.dumps(options))
        factory = AppFactory(folder)
        made.append(factory)
        return factory([latentd_ray], flags)

    yield start
    for factory in made:
        factory.close()
