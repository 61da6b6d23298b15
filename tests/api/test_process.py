"""A server in a process of its own, over real sockets."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest


def _call(url: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_lists_are_served(server: str) -> None:
    status, rows = _call(f"{server}/sdapi/v1/sd-models")
    assert (status, [row["model_name"] for row in rows]) == (200, ["empty"])


def test_errors_reach_the_client(server: str) -> None:
    status, body = _call(f"{server}/sdapi/v1/txt2img", {"sampler_name": "No Such Sampler"})
    assert (status, body["detail"]) == (404, "Sampler not found")


def test_a_broken_model_fails_its_job_and_not_the_server(server: str) -> None:
    status, body = _call(f"{server}/sdapi/v1/txt2img", {"prompt": "a", "steps": 1, "width": 64, "height": 64})
    assert (status, body["error"]) == (422, "HTTPException")
    assert "empty" in body["detail"]
    assert _call(f"{server}/livez") == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["interrupt", "skip", "refresh-checkpoints", "unload-checkpoint"])
def test_actions_are_harmless_when_idle(server: str, path: str) -> None:
    status, body = _call(f"{server}/sdapi/v1/{path}", {})
    assert (status, body) == (200, {} if path in ("interrupt", "unload-checkpoint") else None)


def test_progress_is_idle(server: str) -> None:
    status, body = _call(f"{server}/sdapi/v1/progress")
    assert (status, body["progress"], body["state"]["job_count"]) == (200, 0, 0)
