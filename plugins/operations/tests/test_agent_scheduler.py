"""agent-scheduler's clients hand tasks in, read, move and take them away."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

SMALL: dict[str, Any] = {"prompt": "a red circle", "steps": 2, "width": 64, "height": 64, "seed": 3}
BASE = "/agent-scheduler/v1"


@pytest.fixture
def client(serve: Callable[..., Any]) -> Any:
    found = serve()
    found.post(f"{BASE}/pause")
    return found


def queue_task(client: Any, kind: str = "txt2img", **fields: Any) -> str:
    reply = client.post(f"{BASE}/queue/{kind}", json=SMALL | fields)
    assert reply.status_code == 200, reply.text
    task: str = reply.json()["task_id"]
    return task


def test_tasks_wait_and_are_read(client: Any) -> None:
    first = queue_task(client, checkpoint="one", alwayson_scripts={}, frob=1)
    second = queue_task(client)
    found = client.get(f"{BASE}/queue").json()
    assert (found["paused"], found["total_pending_tasks"], found["current_task_id"]) == (True, 2, None)
    assert [(task["id"], task["position"], task["status"]) for task in found["pending_tasks"]] == [
        (first, 0, "pending"),
        (second, 1, "pending"),
    ]
    assert client.get(f"{BASE}/queue?limit=1&offset=1").json()["pending_tasks"][0]["id"] == second
    task = client.get(f"{BASE}/task/{first}").json()
    assert task["success"] is True
    params = task["data"]["params"]
    assert (params["prompt"], params["checkpoint"], "alwayson_scripts" in params) == ("a red circle", "one", False)
    assert task["data"]["created_at"].endswith("Z")
    where = client.get(f"{BASE}/task/{second}/position").json()
    assert where == {"success": True, "data": {"status": "pending", "position": 1}}
    assert "frob" in str(client.get(f"/latentd/v1/jobs/{first}").json()["warnings"])


def test_tasks_are_drawn_and_their_pictures_fetched(client: Any, until: Callable[..., None]) -> None:
    task = queue_task(client, batch_size=2)
    assert client.get(f"{BASE}/results/{task}").json() == {"success": False, "message": "Task is pending"}
    client.post(f"{BASE}/queue/resume")
    until(lambda: client.get(f"{BASE}/history").json()["total"] == 1)
    [ended] = client.get(f"{BASE}/history?status=done").json()["tasks"]
    assert (ended["id"], ended["status"], ended["type"]) == (task, "done", "txt2img")
    assert isinstance(ended["created_at"], int)
    result = json.loads(ended["result"])
    assert (len(result["images"]), result["infotexts"][0].startswith("a red circle")) == (2, True)
    data = client.get(f"{BASE}/task/{task}/results").json()["data"]
    head, _, text = data[0]["image"].partition(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(text))).size == (64, 64)
    assert data[1]["infotext"].startswith("a red circle")
    zipped = client.get(f"{BASE}/results/{task}?zip=true")
    assert zipped.headers["content-type"] == "application/zip"
    assert len(zipfile.ZipFile(io.BytesIO(zipped.content)).namelist()) == 2
    fetched = client.get(result["images"][1])
    assert fetched.headers["content-type"] == "image/png"


def test_img2img_and_a_failure(client: Any, until: Callable[..., None]) -> None:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "navy").save(out, "PNG")
    queue_task(client, "img2img", init_images=[base64.b64encode(out.getvalue()).decode()])
    folder = client.app.state.services.paths.data / "models/Stable-diffusion"
    (folder / "broken.safetensors").write_bytes(b"no weights")
    client.post("/sdapi/v1/refresh-checkpoints")
    broken = queue_task(client, checkpoint="broken")
    client.post(f"{BASE}/resume")
    until(lambda: client.get(f"{BASE}/history").json()["total"] == 2)
    assert [task["type"] for task in client.get(f"{BASE}/history?status=done").json()["tasks"]] == ["img2img"]
    [failed] = client.get(f"{BASE}/history?status=failed").json()["tasks"]
    assert (failed["id"], "broken" in failed["result"]) == (broken, True)
    unknown = client.post(f"{BASE}/queue/txt2img", json=SMALL | {"checkpoint": "none such"})
    assert unknown.status_code == 404
    assert client.get(f"{BASE}/queue").json()["total_pending_tasks"] == 0


def test_tasks_are_moved_named_kept_and_taken_away(client: Any) -> None:
    a, b, c = (queue_task(client) for _ in range(3))

    def order() -> list[str]:
        return [task["id"] for task in client.get(f"{BASE}/queue").json()["pending_tasks"]]

    assert client.post(f"{BASE}/task/{c}/move/top").json() == {"success": True, "message": "Task moved to top"}
    assert order() == [c, a, b]
    client.post(f"{BASE}/move/{c}/bottom")
    client.post(f"{BASE}/task/{b}/move/{a}")
    assert order() == [b, a, c]
    run = client.post(f"{BASE}/task/{c}/run").json()
    assert (run["success"], "paused" in run["message"], order()[0]) == (False, True, c)
    assert client.post(f"{BASE}/task/{a}/rename?name=mine").json()["success"]
    assert client.post(f"{BASE}/bookmark/{a}").json()["success"]
    named = client.get(f"{BASE}/task/{a}").json()["data"]
    assert (named["name"], named["bookmarked"]) == ("mine", True)
    assert client.put(f"{BASE}/task/{a}", json={"params": {"steps": 3}}).json()["success"] is False
    assert client.post(f"{BASE}/task/{a}/requeue").json() == {"success": True, "message": "Task requeued"}
    assert client.get(f"{BASE}/queue").json()["pending_tasks"][-1]["name"] == "Copy of mine"
    assert client.delete(f"{BASE}/task/{a}").json() == {"success": True, "message": "Task deleted"}
    assert client.post(f"{BASE}/delete/{b}").json()["success"]
    for path in (f"task/{a}", f"task/{a}/position", f"results/{b}"):
        assert client.get(f"{BASE}/{path}").json() == {"success": False, "message": "Task not found"}
    assert client.post(f"{BASE}/queue/clear").json()["success"]
    assert (order(), client.get(f"{BASE}/history").json()["total"]) == ([], 0)


def test_a_running_task_is_interrupted(client: Any, until: Callable[..., None]) -> None:
    task = queue_task(client, steps=1000)
    client.post(f"{BASE}/resume")
    until(lambda: client.get(f"{BASE}/queue").json()["current_task_id"] == task)
    assert client.get(f"{BASE}/task/{task}").json()["data"]["status"] == "running"
    assert client.delete(f"{BASE}/task/{task}").json() == {"success": True, "message": "Task interrupted"}
    until(lambda: client.get(f"{BASE}/history?status=interrupted").json()["total"] == 1)
    assert client.post(f"{BASE}/history/clear").json()["success"]
    assert client.get(f"{BASE}/history").json()["total"] == 0


def test_lists_and_keys(serve: Callable[..., Any]) -> None:
    client = serve("--api-key", "secret")
    assert client.get(f"{BASE}/queue").status_code == 401
    client.headers["Authorization"] = "Bearer secret"
    assert "Euler a" in client.get(f"{BASE}/samplers").json()
    assert client.get(f"{BASE}/sd-models").json()[0].startswith("one.safetensors")
