"""Jobs over real sockets: progress as it moves, stopping, events, bounds, and clients that leave."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.e2e.calls import BASE, draw, opened
from tests.reference_server import ReferenceServer

#: More than any test waits for; every test that asks for it also ends it.
LONG = {**BASE, "steps": 150, "n_iter": 4}
PATIENCE = 60.0
TERMINAL = ("completed", "failed", "cancelled")


def until(condition: Callable[[], Any]) -> Any:
    """What ``condition()`` gives once it is truthy."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come about")


def job(server: ReferenceServer, job_id: str) -> dict[str, Any]:
    status, document = server.call("GET", f"/latentd/v1/jobs/{job_id}")
    assert status == 200, document
    return dict(document)


def submit(server: ReferenceServer, **fields: Any) -> str:
    status, reply = server.call("POST", "/latentd/v1/jobs", {**LONG, **fields})
    assert status == 202, reply
    return str(reply["id"])


def cancel(server: ReferenceServer, *ids: str) -> None:
    for job_id in ids:
        server.call("POST", f"/latentd/v1/jobs/{job_id}/cancel")
    for job_id in ids:
        until(lambda job_id=job_id: job(server, job_id)["state"] in TERMINAL)


@contextmanager
def asking(server: ReferenceServer, body: dict[str, Any]) -> Iterator[list[Any]]:
    """Asks txt2img in a thread; the list holds (status, body) after the block."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(server.call("POST", "/sdapi/v1/txt2img", body)))
    thread.start()
    try:
        yield answers
    finally:
        thread.join(PATIENCE)
    assert answers


def sampling(server: ReferenceServer) -> dict[str, Any] | None:
    """The progress once sampling has begun."""
    document = server.call("GET", "/sdapi/v1/progress")[1]
    return document if document["state"]["sampling_step"] > 0 and document["state"]["job_count"] > 0 else None


def test_progress_moves_as_a1111s_does(live: ReferenceServer) -> None:
    seen: list[dict[str, Any]] = []
    with asking(live, {**BASE, "steps": 12, "n_iter": 2}) as answers:
        while not answers:
            seen.append(live.call("GET", "/sdapi/v1/progress")[1])
            time.sleep(0.01)
    assert answers[0][0] == 200
    busy = [d for d in seen if d["state"]["job_count"] > 0]
    assert {d["state"]["job_count"] for d in busy} == {2}
    assert {d["state"]["job_no"] for d in busy} >= {0, 1}
    assert {"Batch 1 out of 2", "Batch 2 out of 2"} <= {d["state"]["job"] for d in busy}
    for document in busy:
        state = document["state"]
        steps = state["sampling_step"] / state["sampling_steps"] if state["sampling_steps"] else 0
        assert document["progress"] == pytest.approx(min(1, 0.01 + state["job_no"] / 2 + steps / 2))
        assert len(state["job_timestamp"]) == 14
    places = [(d["state"]["job_no"], d["state"]["sampling_step"]) for d in busy if d["state"]["job_no"] < 2]
    assert places == sorted(places)
    previews = [d["current_image"] for d in busy if d["current_image"]]
    assert all(opened(base64.b64decode(text)).size[0] > 0 for text in previews)
    idle = live.call("GET", "/sdapi/v1/progress")[1]
    assert (idle["progress"], idle["eta_relative"], idle["state"]["job_count"]) == (0, 0, 0)


def test_interrupt_returns_what_there_is(live: ReferenceServer) -> None:
    with asking(live, LONG) as answers:
        until(lambda: sampling(live))
        assert live.call("POST", "/sdapi/v1/interrupt") == (200, {})
    status, reply = answers[0]
    assert (status, len(reply["images"])) == (200, 1)
    assert opened(base64.b64decode(reply["images"][0])).size == (64, 64)
    assert live.call("GET", "/sdapi/v1/progress")[1]["state"]["interrupted"] is True
    draw(live)
    assert live.call("GET", "/sdapi/v1/progress")[1]["state"]["interrupted"] is False


def test_skip_goes_on_with_the_next_batch(live: ReferenceServer) -> None:
    def second() -> bool:
        document = sampling(live)
        return bool(document and document["state"]["job_no"] == 1)

    with asking(live, {**LONG, "n_iter": 2}) as answers:
        until(lambda: sampling(live))
        assert live.call("POST", "/sdapi/v1/skip") == (200, None)
        until(second)
        live.call("POST", "/sdapi/v1/skip")
    assert (answers[0][0], len(answers[0][1]["images"])) == (200, 2)


@pytest.mark.parametrize("keep", [False, True])
def test_save_incomplete_images(live: ReferenceServer, keep: bool) -> None:
    folder = live.data / "outputs" / f"incomplete-{keep}"
    options = {"outdir_txt2img_samples": str(folder), "save_incomplete_images": keep}
    with asking(live, {**LONG, "save_images": True, "override_settings": options}):
        until(lambda: sampling(live))
        live.call("POST", "/sdapi/v1/interrupt")
    assert len(list(folder.rglob("*.png"))) == keep


def test_fast_interrupt_answers_with_the_previews_method(live: ReferenceServer) -> None:
    with asking(live, {**LONG, "override_settings": {"live_preview_fast_interrupt": True}}) as answers:
        until(lambda: sampling(live))
        live.call("POST", "/sdapi/v1/interrupt")
    assert opened(base64.b64decode(answers[0][1]["images"][0])).size == (64, 64)


def test_a_job_from_queue_to_picture(live: ReferenceServer) -> None:
    job_id = submit(live, steps=2, n_iter=1, batch_size=2)
    document = until(lambda: (d := job(live, job_id))["state"] == "completed" and d)
    assert [picture["seed"] for picture in document["images"]] == [7, 8]
    url = urlsplit(live.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    connection.request("GET", document["images"][1]["url"])
    reply = connection.getresponse()
    assert (reply.status, reply.headers["Content-Type"]) == (200, "image/png")
    assert opened(reply.read()).info["parameters"] == document["images"][1]["infotext"]
    connection.request("GET", f"{document['images'][0]['url']}?format=webp")
    assert opened(connection.getresponse().read()).format == "WEBP"
    connection.close()


def test_events_of_a_job(live: ReferenceServer) -> None:
    job_id = submit(live, steps=8, n_iter=1)
    url = urlsplit(live.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=PATIENCE)
    connection.request("GET", f"/latentd/v1/jobs/{job_id}/events")
    reply = connection.getresponse()
    assert reply.headers["Content-Type"].startswith("text/event-stream")
    text = reply.read().decode()
    connection.close()
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.split("\n\n") if block]
    names = [event["event"] for event in events if "event" in event]
    assert names[-1] == "completed"
    assert set(names[:-1]) <= {"queued", "started", "progress"}
    steps = [json.loads(event["data"])["step"] for event in events if event.get("event") == "progress"]
    assert steps == sorted(steps)
    assert json.loads(events[-1]["data"])["progress"] == 1.0


def test_cancelling_one_job_leaves_the_others(live: ReferenceServer) -> None:
    running, waiting, last = submit(live), submit(live), submit(live, steps=1, n_iter=1)
    try:
        until(lambda: job(live, running)["state"] == "running")
        assert [job(live, i)["position"] for i in (waiting, last)] == [1, 2]
        assert live.call("POST", f"/latentd/v1/jobs/{waiting}/cancel")[1]["state"] == "cancelled"
        assert job(live, last)["position"] == 1
        live.call("POST", f"/latentd/v1/jobs/{running}/cancel")
        until(lambda: job(live, running)["state"] == "cancelled")
        until(lambda: job(live, last)["state"] == "completed")
        assert live.call("POST", f"/latentd/v1/jobs/{last}/cancel")[1]["state"] == "completed"
        assert live.call("GET", f"/latentd/v1/jobs/{running}/images/0")[0] == 409
    finally:
        cancel(live, running, waiting, last)


def test_a_task_id_in_use_is_refused(live: ReferenceServer) -> None:
    job_id = submit(live, force_task_id="task(mine)")
    try:
        status, reply = live.call("POST", "/sdapi/v1/txt2img", {**BASE, "force_task_id": "task(mine)"})
        assert (status, "in use" in reply["detail"]) == (409, True)
        body = {"id_task": "task(mine)", "live_preview": False}
        until(lambda: live.call("POST", "/internal/progress", body)[1]["active"])
        assert live.call("GET", "/internal/pending-tasks")[1]["tasks"] == []
    finally:
        cancel(live, job_id)
    assert live.call("POST", "/internal/progress", body)[1]["completed"] is True


def test_a_full_queue_answers_429(live: ReferenceServer) -> None:
    ids = [submit(live)]
    try:
        until(lambda: job(live, ids[0])["state"] == "running")
        ids += [submit(live) for _ in range(6)]
        url = urlsplit(live.url)
        connection = http.client.HTTPConnection(url.hostname or "", url.port)
        connection.request("POST", "/sdapi/v1/txt2img", json.dumps(BASE), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        assert (reply.status, int(reply.headers["Retry-After"]) >= 1) == (429, True)
        connection.close()
        assert live.call("GET", "/internal/pending-tasks")[1]["size"] == 6
    finally:
        cancel(live, *ids)


def test_a_client_that_leaves_cancels_its_job(live: ReferenceServer) -> None:
    """With ``--cancel-on-disconnect``, as this server has."""
    url = urlsplit(live.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    body = {**LONG, "force_task_id": "task(left)"}
    connection.request("POST", "/sdapi/v1/txt2img", json.dumps(body), {"Content-Type": "application/json"})
    until(lambda: sampling(live))
    connection.close()
    until(lambda: job(live, "task(left)")["state"] == "cancelled")


@pytest.mark.parametrize(("media", "format"), [("image/png", "PNG"), ("image/webp", "WEBP"), ("image/jpeg", "JPEG")])
def test_bytes_instead_of_json(live: ReferenceServer, media: str, format: str) -> None:
    url = urlsplit(live.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=PATIENCE)
    headers = {"Content-Type": "application/json", "Accept": media}
    connection.request("POST", "/sdapi/v1/txt2img", json.dumps(BASE), headers)
    reply = connection.getresponse()
    assert (reply.status, reply.headers["Content-Type"]) == (200, media)
    assert reply.headers["X-Latentd-Job"].startswith("task(txt2img-")
    assert opened(reply.read()).format == format
    connection.close()
