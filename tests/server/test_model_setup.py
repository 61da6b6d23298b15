"""Flags, options and plugins reach the owner of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from latentd.hookspecs import hookimpl
from latentd.server.model_setup import ServedModels
from latentd.server.services import AppServices, create_services
from latentd.settings import parse_settings


class Watcher:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    @hookimpl
    def model_event(self, name: str, event: str) -> None:
        self.seen.append((name, event))


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def services(tmp_path: Path, watcher: Watcher) -> AppServices:
    flags = ["--data-dir", str(tmp_path), "--core-only", "--model-cache-mb", "1"]
    return create_services(
        parse_settings(flags, environment={}), extra_plugins=[("watcher", watcher)], serve_http=False
    )


def use(models: ServedModels, name: str, size: int = 1) -> None:
    with models.cache.lease(("checkpoint", name), lambda: name, size):
        pass


def test_plugins_hear_of_models(services: AppServices, watcher: Watcher) -> None:
    use(services.models, "a.safetensors")
    use(services.models, "b.safetensors")
    loaded, dropped = ("checkpoint b.safetensors", "loaded"), ("checkpoint a.safetensors", "unloaded")
    assert watcher.seen == [("checkpoint a.safetensors", "loaded"), dropped, loaded]


def test_sd_checkpoints_limit_acts_when_set(services: AppServices) -> None:
    services.options.update({"sd_checkpoints_limit": 2})
    for name in "abc":
        use(services.models, name)
    assert services.models.cache.loaded("checkpoint") == ["b", "c"]
    services.options.update({"sd_checkpoints_limit": 1})
    assert services.models.cache.loaded("checkpoint") == ["c"]


def test_the_budget_of_the_flag_holds(services: AppServices) -> None:
    services.options.update({"sd_checkpoints_limit": 5})
    for name in "abc":
        use(services.models, name, size=400 * 1024)
    assert services.models.cache.loaded("checkpoint") == ["b", "c"]


def test_the_worker_gives_memory_back_after_each_job(services: AppServices, monkeypatch: Any) -> None:
    called: list[int] = []
    monkeypatch.setattr("latentd.server.engine_setup.free_cache", lambda: called.append(1))
    engine = create_services(services.settings, serve_http=False).engine
    engine.submit(lambda job: 1, kind="x").join(60)
    engine.submit(lambda job: 1, kind="x").join(60)
    assert engine.close()
    assert len(called) == 2


def test_nothing_is_loaded_for_a_first_reply_while_the_server_ends(tmp_path: Path) -> None:
    services = create_services(parse_settings(["--data-dir", str(tmp_path), "--core-only"], environment={}))
    services.close()
    services.warm_up()
