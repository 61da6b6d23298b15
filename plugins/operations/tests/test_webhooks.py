"""Receivers on loopback hear of every end once; nobody else is spoken to."""

from __future__ import annotations

import email
import email.policy
import io
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from latentd_operations import webhooks
from latentd_operations.webhooks import Delivery, Webhooks, signature
from PIL import Image

SMALL: dict[str, Any] = {"prompt": "a red circle", "steps": 2, "width": 64, "height": 64, "seed": 3}


def test_a_signature_is_checked_as_documented() -> None:
    """By openssl: ``printf '1700000000.{}' | openssl dgst -sha256 -hmac key``."""
    assert signature("key", "1700000000", b"{}") == (
        "sha256=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae"
    )


def test_every_end_is_told_once_through_a_restart_of_the_receiver(
    serve: Callable[..., Any], receiver: Any, until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "FIRST_WAIT", 0.05)
    client = serve(webhook_urls=receiver.url, webhook_private=True)
    ids = []

    def hand_in(**fields: Any) -> None:
        ids.append(client.post("/latentd/v1/jobs", json=SMALL | fields).json()["id"])

    hand_in()
    until(lambda: receiver.jobs() == ids)
    receiver.stop()
    hand_in()
    hand_in()
    queue = client.app.state.services.queue
    until(lambda: all(queue.get(job).status == "completed" for job in ids))
    client.post("/agent-scheduler/v1/pause")
    hand_in()
    client.post(f"/latentd/v1/jobs/{ids[-1]}/cancel")
    time.sleep(0.3)
    receiver.answers = [503, 429]  # it is not ready at once
    receiver.start()
    until(lambda: len(receiver.taken) == 4)
    time.sleep(0.3)
    assert sorted(receiver.jobs()) == sorted(ids)
    events = {json.loads(call.body)["job"]["id"]: json.loads(call.body)["event"] for call in receiver.taken}
    assert [events[job] for job in ids] == ["completed"] * 3 + ["cancelled"]
    call = receiver.taken[0]
    assert call.path == "/hook?token=private"
    assert call.headers["X-Latentd-Signature"] == signature("s3cret", call.headers["X-Latentd-Timestamp"], call.body)
    assert len({call.headers["X-Latentd-Delivery"] for call in receiver.taken}) == 4
    counted = client.get("/metrics").text
    assert 'latentd_webhooks_total{outcome="delivered"} 4.0' in counted
    assert "latentd_webhooks_waiting 0.0" in counted


def test_private_addresses_are_not_spoken_to_unless_the_operator_says_so(
    serve: Callable[..., Any], receiver: Any, until: Callable[..., None]
) -> None:
    client = serve(webhook_urls=receiver.url)
    assert client.post("/sdapi/v1/txt2img", json=SMALL).status_code == 200
    until(lambda: 'latentd_webhooks_total{outcome="refused"} 1.0' in client.get("/metrics").text)
    assert receiver.taken == []


def test_the_options_cannot_be_set_over_http(serve: Callable[..., Any]) -> None:
    client = serve()
    client.post("/sdapi/v1/options", json={"webhook_urls": "http://127.0.0.1/", "webhook_private": True})
    options = client.get("/sdapi/v1/options").json()
    assert (options["webhook_urls"], options["webhook_private"]) == ("", False)


class Options(dict[str, Any]):
    """A server's options, for webhooks without one."""


def hooks(**options: Any) -> Webhooks:
    found = {"webhook_urls": "", "webhook_hosts": "", "webhook_private": True, **options}
    return Webhooks(SimpleNamespace(options=found), secret="")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://hooks.example/x", True),
        ("https://HOOKS.example.:8443/x", True),
        ("https://a.b.example.org/", True),
        ("https://example.org/", True),
        ("https://example.org.evil.example/", False),
        ("https://evilexample.org/", False),
        ("http://hooks.example@evil.example/", False),
        ("ftp://hooks.example/", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_only_listed_hosts_may_be_named_by_requests(url: str, allowed: bool) -> None:
    found = hooks(webhook_hosts="hooks.example, .example.org")
    if allowed:
        found.check(url)
    else:
        with pytest.raises(Exception, match="callback_url"):
            found.check(url)


def test_what_is_refused_for_good_is_not_tried_again(receiver: Any, until: Callable[..., None]) -> None:
    found = hooks()
    receiver.answers = [404]
    found.start()
    found._put(Delivery(url=receiver.url, job_id="a", event="completed", make=lambda: (b"x", "text/plain")))
    until(lambda: found.outcomes["refused"] == 1)
    found.close()
    assert (receiver.taken, dict(found.outcomes)) == ([], {"refused": 1})


def test_a_receiver_that_never_answers_is_given_up_and_others_are_not_kept_waiting(
    receiver: Any, until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(webhooks, "TRIES", 4)
    found = hooks()
    found.start()
    for number in range(5):
        url = "http://127.0.0.1:9/" if number < 4 else receiver.url
        found._put(Delivery(url=url, job_id=str(number), event="failed", make=lambda: (b"x", "text/plain")))
    until(lambda: found.outcomes["given up"] == 4 and found.outcomes["delivered"] == 1)
    assert found.outcomes["retried"] == 12
    found.close()


def test_the_oldest_are_dropped_when_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "MOST_WAITING", 3)
    found = hooks()
    for number in range(5):
        found._put(Delivery(url="http://127.0.0.1:9/", job_id=str(number), event="x", make=lambda: (b"", "")))
    assert (len(found), found.outcomes["dropped"]) == (3, 2)
    assert sorted(entry[2].job_id for entry in found._waiting) == ["2", "3", "4"]


def test_what_waits_is_delivered_before_the_end(receiver: Any) -> None:
    found = hooks()
    found._put(Delivery(url=receiver.url, job_id="a", event="x", make=lambda: (b"last", "text/plain")), wait=30)
    found.start()
    found.close()
    assert [call.body for call in receiver.taken] == [b"last"]


def test_a_tasks_callback_gets_agent_schedulers_form(
    serve: Callable[..., Any], receiver: Any, until: Callable[..., None]
) -> None:
    client = serve(webhook_hosts="127.0.0.1", webhook_private=True)
    body = SMALL | {"batch_size": 2, "callback_url": receiver.url}
    task = client.post("/agent-scheduler/v1/queue/txt2img", json=body).json()["task_id"]
    until(lambda: len(receiver.taken) == 1)
    call = receiver.taken[0]
    head = f"Content-Type: {call.headers['Content-Type']}\r\n\r\n".encode()
    parts = list(email.message_from_bytes(head + call.body, policy=email.policy.HTTP).iter_parts())  # type: ignore[attr-defined]
    named = [(part.get_param("name", header="content-disposition"), part.get_content()) for part in parts]
    assert named[:2] == [("task_id", task), ("status", "done")]
    assert [name for name, _ in named[2:]] == ["files", "files"]
    assert [Image.open(io.BytesIO(data)).size for _, data in named[2:]] == [(64, 64)] * 2
    refused = client.post("/agent-scheduler/v1/queue/txt2img", json=SMALL | {"callback_url": "http://other.example/"})
    assert (refused.status_code, "webhook_hosts" in refused.json()["hint"]) == (422, True)
