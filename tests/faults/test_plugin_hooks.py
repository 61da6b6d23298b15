"""A plugin that raises, at every hook there is: the server starts, says which plugin it was, and serves the others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from latentd import hookspecs
from latentd.api import hookimpl
from latentd.server.app import create_app
from latentd.settings import parse_settings

NAME = "raiser"
HOOKS: dict[str, Callable[..., Any]] = {
    name: spec for name, spec in vars(hookspecs).items() if hasattr(spec, "latentd_spec")
}
START = [name for name in HOOKS if name.startswith("register_")] + ["startup"]
#: Observers, whose failure is told in the log and costs nobody anything; and what runs at the end.
QUIET = ["job_event", "model_event", "request_begun", "request_done", "shutdown"]
ASKED = ["authenticate", "create_executor", "error_reply"]
WORK = [name for name in HOOKS if name not in {*START, *QUIET, *ASKED}]
SMALL = {"prompt": "a red circle", "steps": 1, "width": 64, "height": 64, "save_images": True}


class Raiser:
    """Raises at the hooks in ``at``."""

    def __init__(self, *at: str) -> None:
        self.at = set(at)
        # Whoever offers to vouch for users closes the server.
        for name in {*START, *WORK, *QUIET, *at}:
            setattr(self, name, hookimpl(self._hook(name)))

    def _hook(self, name: str) -> Callable[..., Any]:
        def hook(**_given: Any) -> Any:
            if name in self.at:
                raise KeyError(f"raised at {name}")
            return [] if name.startswith("register_") or name == "unet_hooks" else None

        given = inspect.signature(HOOKS[name]).parameters
        source = f"def {name}({', '.join(given)}):\n    return hook({', '.join(f'{p}={p}' for p in given)})"
        made: dict[str, Any] = {"hook": hook}
        exec(source, made)
        found: Callable[..., Any] = made[name]
        return found


def serve(data: Path, plugin: Raiser) -> TestClient:
    settings = parse_settings(["--data-dir", str(data), "--plugins", f"tinymodel,{NAME}"], environment={})
    app = create_app(settings, extra_plugins=[(NAME, plugin)])
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


@pytest.mark.parametrize("hook", START)
def test_a_plugin_that_fails_at_the_start_is_withdrawn_and_told(tmp_path: Path, hook: str) -> None:
    with serve(tmp_path, Raiser(hook)) as client:
        assert client.get("/sdapi/v1/samplers").status_code == 200
        assert hook in str(client.app.state.services.host.problems()[NAME])  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Raiser]]:
    plugin = Raiser()
    with serve(tmp_path_factory.mktemp("hooks"), plugin) as client:
        yield client, plugin


@pytest.mark.parametrize("hook", WORK)
def test_a_plugin_that_fails_in_a_job_fails_that_job_and_no_other(served: tuple[TestClient, Raiser], hook: str) -> None:
    client, plugin = served
    plugin.at = {hook}
    reply = client.post("/sdapi/v1/txt2img", json=SMALL)
    plugin.at = set()
    assert reply.status_code == 500
    assert NAME in reply.text
    assert hook in reply.text
    assert client.post("/sdapi/v1/txt2img", json=SMALL).status_code == 200


def test_observers_that_fail_cost_nobody_anything(served: tuple[TestClient, Raiser]) -> None:
    client, plugin = served
    plugin.at = {"job_event", "model_event", "request_begun", "request_done"}
    assert client.post("/sdapi/v1/txt2img", json=SMALL).status_code == 200
    plugin.at = set()


def test_a_failure_to_vouch_lets_nobody_in(tmp_path: Path) -> None:
    with serve(tmp_path, Raiser("authenticate")) as client:
        for _ in range(2):
            assert client.get("/sdapi/v1/samplers").status_code in (401, 500)
        assert client.get("/livez").status_code == 200


def test_a_failure_to_translate_an_error_leaves_it_as_it_was(tmp_path: Path) -> None:
    with serve(tmp_path, Raiser("error_reply")) as client:
        reply = client.get("/latentd/v1/jobs/none")
        assert (reply.status_code, reply.json()["detail"]) == (404, "job 'none' not found")


def test_a_failing_executor_ends_the_start_or_is_told(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=NAME), serve(tmp_path, Raiser("create_executor")):
        pass


@pytest.mark.parametrize("hook", ["shutdown"])
def test_a_failure_at_the_end_lets_the_server_end(tmp_path: Path, hook: str) -> None:
    with serve(tmp_path, Raiser(hook)) as client:
        assert client.get("/livez").status_code == 200


def test_every_hook_is_tried() -> None:
    assert {*START, *QUIET, *ASKED, *WORK} == set(HOOKS)
