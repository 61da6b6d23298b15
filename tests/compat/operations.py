"""Contracts of the metrics, and of agent-scheduler's routes."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from typing import Any

from tests.compat.contract import SMALL, Check, contract, get, post
from tests.reference_server import ReferenceServer

BASE = "/agent-scheduler/v1"
THEIRS = "agent-scheduler's, over the jobs"


@contract("GET /metrics", "latentd's own", "for Prometheus")
def metrics(server: ReferenceServer) -> None:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as reply:
        assert b"latentd_jobs_present" in reply.read()


def _task(server: ReferenceServer) -> str:
    """A task that has ended."""
    task: str = post(server, f"{BASE}/queue/txt2img", SMALL)["task_id"]
    while get(server, f"{BASE}/task/{task}")["data"]["status"] in ("pending", "running"):
        time.sleep(0.05)
    return task


@contract(f"POST {BASE}/queue/txt2img", "latentd's own", THEIRS)
def txt2img(server: ReferenceServer) -> None:
    assert get(server, f"{BASE}/task/{_task(server)}")["data"]["status"] == "done"


@contract(f"POST {BASE}/queue/img2img", "latentd's own", THEIRS)
def img2img(server: ReferenceServer) -> None:
    picture = post(server, "/sdapi/v1/txt2img", SMALL)["images"][0]
    assert post(server, f"{BASE}/queue/img2img", SMALL | {"init_images": [picture]})["task_id"]


def _lists(path: str, key: str) -> None:
    @contract(f"GET {BASE}{path}", "latentd's own", THEIRS)
    def listed(server: ReferenceServer) -> None:
        assert key in str(get(server, BASE + path))


_lists("/queue", "pending_tasks")
_lists("/history", "total")
_lists("/samplers", "Euler")
_lists("/sd-models", "tiny-a")


def _of_task(method: str, *paths: str, body: Any = None, query: str = "", success: bool = True) -> None:
    """Contracts of routes that are asked of a task that has ended."""

    def check_of(path: str) -> Check:
        def check(server: ReferenceServer) -> None:
            task = _task(server)
            url = BASE + path.replace("{id}", task).replace("{over_id}", "top") + query
            status, answer = server.call(method, url, body)
            assert (status, answer["success"]) == (200, success), answer
            missing = BASE + path.replace("{id}", "none").replace("{over_id}", "top") + query
            assert server.call(method, missing, body) == (200, {"success": False, "message": "Task not found"})

        return check

    for path in paths:
        contract(f"{method} {BASE}{path}", "latentd's own", THEIRS)(check_of(path))


_of_task("GET", "/task/{id}", "/task/{id}/position", "/task/{id}/results", "/results/{id}")
_of_task("PUT", "/task/{id}", body={"name": "mine"})
_of_task("POST", "/task/{id}/bookmark", "/bookmark/{id}", "/task/{id}/unbookmark", "/unbookmark/{id}")
_of_task("POST", "/task/{id}/requeue", "/requeue/{id}")
_of_task("POST", "/task/{id}/rename", "/rename/{id}", query="?name=mine")
# What has ended cannot be moved.
_of_task("POST", "/task/{id}/run", "/run/{id}", "/task/{id}/move/{over_id}", "/move/{id}/{over_id}", success=False)
_of_task("POST", "/delete/{id}")
_of_task("DELETE", "/task/{id}")


def _paused(pause: str, resume: str) -> Callable[[ReferenceServer], None]:
    def check(server: ReferenceServer) -> None:
        try:
            assert post(server, f"{BASE}{pause}")["success"] is True
            assert get(server, f"{BASE}/queue")["paused"] is True
        finally:
            assert post(server, f"{BASE}{resume}")["success"] is True
        assert get(server, f"{BASE}/queue")["paused"] is False

    return check


for _path in ("/queue/pause", "/queue/resume"):
    contract(f"POST {BASE}{_path}", "latentd's own", THEIRS)(_paused("/queue/pause", "/queue/resume"))
for _path in ("/pause", "/resume"):
    contract(f"POST {BASE}{_path}", "latentd's own", THEIRS)(_paused("/pause", "/resume"))


@contract(f"POST {BASE}/queue/clear", "latentd's own", THEIRS)
def clear_queue(server: ReferenceServer) -> None:
    assert post(server, f"{BASE}/queue/clear")["success"] is True


@contract(f"POST {BASE}/history/clear", "latentd's own", THEIRS)
def clear_history(server: ReferenceServer) -> None:
    _task(server)
    assert post(server, f"{BASE}/history/clear")["success"] is True
    assert get(server, f"{BASE}/history")["total"] == 0
