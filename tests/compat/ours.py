"""Contracts of the endpoints that AUTOMATIC1111 does not have."""

from __future__ import annotations

import urllib.request

from tests.compat.contract import SMALL, contract, get, post
from tests.reference_server import ReferenceServer


def _job(server: ReferenceServer, name: str) -> str:
    """A finished job."""
    post(server, "/sdapi/v1/txt2img", SMALL | {"force_task_id": name})
    return name


def _bytes(server: ReferenceServer, path: str) -> tuple[str, bytes]:
    with urllib.request.urlopen(server.url + path, timeout=30) as reply:
        return reply.headers["Content-Type"], reply.read()


@contract("POST /latentd/v1/jobs", "latentd's own", "starts a generation and answers 202 at once")
def start(server: ReferenceServer) -> None:
    status, job = server.call("POST", "/latentd/v1/jobs", {"mode": "txt2img"} | SMALL)
    assert status == 202, job
    assert job["id"].startswith("task(txt2img-")


@contract("GET /latentd/v1/jobs", "latentd's own", "every job that is waiting, running or remembered")
def jobs(server: ReferenceServer) -> None:
    name = _job(server, "compat-listed")
    assert name in {job["id"] for job in get(server, "/latentd/v1/jobs")["jobs"]}


@contract("GET /latentd/v1/jobs/{job_id}", "latentd's own", "state, position, step, eta, result")
def job(server: ReferenceServer) -> None:
    found = get(server, f"/latentd/v1/jobs/{_job(server, 'compat-job')}")
    assert (found["state"], found["progress"]) == ("completed", 1.0)
    assert server.call("GET", "/latentd/v1/jobs/none")[0] == 404


@contract("POST /latentd/v1/jobs/{job_id}/cancel", "latentd's own", "stops one job, the others go on")
def cancel(server: ReferenceServer) -> None:
    name = _job(server, "compat-cancel")
    assert post(server, f"/latentd/v1/jobs/{name}/cancel")["state"] == "completed"


@contract("POST /latentd/v1/jobs/{job_id}/interrupt", "latentd's own", "ends one job early, with its pictures so far")
def interrupt(server: ReferenceServer) -> None:
    name = _job(server, "compat-interrupt")
    assert post(server, f"/latentd/v1/jobs/{name}/interrupt")["state"] == "completed"
    assert server.call("POST", "/latentd/v1/jobs/none/interrupt")[0] == 404


@contract("GET /latentd/v1/events", "latentd's own", "what happens to all jobs, as server-sent events")
def all_events(server: ReferenceServer) -> None:
    with urllib.request.urlopen(f"{server.url}/latentd/v1/events", timeout=30) as reply:
        assert reply.headers["Content-Type"].startswith("text/event-stream")
        _job(server, "compat-all-events")
        for line in reply:
            if line.startswith(b"data:") and b"compat-all-events" in line and b'"completed"' in line:
                return
    raise AssertionError("the end of the job was not told")


@contract("GET /latentd/v1/jobs/{job_id}/events", "latentd's own", "what happens to a job, as server-sent events")
def events(server: ReferenceServer) -> None:
    kind, data = _bytes(server, f"/latentd/v1/jobs/{_job(server, 'compat-events')}/events")
    assert kind.startswith("text/event-stream")
    assert b"completed" in data


@contract("GET /latentd/v1/jobs/{job_id}/images/{index}", "latentd's own", "a picture's bytes")
def image(server: ReferenceServer) -> None:
    name = _job(server, "compat-image")
    kind, data = _bytes(server, f"/latentd/v1/jobs/{name}/images/0")
    assert (kind, data[:4]) == ("image/png", b"\x89PNG")
    assert server.call("GET", f"/latentd/v1/jobs/{name}/images/1")[0] == 404


@contract("GET /latentd/v1/jobs/{job_id}/preview", "latentd's own", "the last preview's bytes")
def preview(server: ReferenceServer) -> None:
    assert server.call("GET", "/latentd/v1/jobs/none/preview")[0] == 404


@contract("POST /latentd/v1/tickets", "latentd's own", "a short-lived pass for event streams in browsers")
def tickets(server: ReferenceServer) -> None:
    given = post(server, "/latentd/v1/tickets")
    assert (given["expires_in"], len(given["ticket"])) == (300, 43)
    job = _job(server, "compat-ticket")
    kind, _ = _bytes(server, f"/latentd/v1/jobs/{job}/events?ticket={given['ticket']}")
    assert kind.startswith("text/event-stream")


@contract("GET /latentd/v1/plugins", "latentd's own", "plugins, what they add, and which failed and why")
def plugins(server: ReferenceServer) -> None:
    found = {plugin["name"]: plugin for plugin in get(server, "/latentd/v1/plugins")["plugins"]}
    assert found["controlnet"]["state"] == "loaded"


@contract("GET /latentd/v1/precision", "latentd's own", "dtype and layout of loaded models, and what was measured")
def precision(server: ReferenceServer) -> None:
    post(server, "/sdapi/v1/txt2img", {"steps": 1, "width": 64, "height": 64})
    found = get(server, "/latentd/v1/precision")
    assert found["threads"] >= 1
    assert found["models"][0]["parts"]["unet"] == {"dtype": "float32", "channels_last": False}
    assert found["models"][0]["measured"] is None


@contract("GET /livez", "latentd's own", "the process answers")
def livez(server: ReferenceServer) -> None:
    assert get(server, "/livez") == {"status": "ok"}


@contract("GET /readyz", "latentd's own", "a checkpoint is there and no plugin failed")
def readyz(server: ReferenceServer) -> None:
    assert get(server, "/readyz") == {"status": "ok", "problems": [], "failed_plugins": [], "failed_devices": []}
