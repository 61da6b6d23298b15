"""What is long is read, checked, built and written beside the event loop; ``benchmarks/livez.py`` has the times."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from latentd.server import json_reply, openapi, routing
from latentd.server.json_reply import LateJSONResponse, SafeJSONResponse
from latentd.server.middleware import PIECE, PiecesMiddleware
from latentd.server.routing import MOST_FAULTS, READ_AT_ONCE
from latentd.server.schemas.generation import Img2ImgRequest
from latentd.testing import AppFactory

LONG = "A" * READ_AT_ONCE


@pytest.fixture
def on_loop(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[bool]]:
    """``on_loop(owner, name)`` gives a list, which gets whether each call of that function is on an event loop."""

    def watch(owner: Any, name: str) -> list[bool]:
        seen: list[bool] = []
        original = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            try:
                asyncio.get_running_loop()
                seen.append(True)
            except RuntimeError:
                seen.append(False)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)
        return seen

    return watch


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sdapi/v1/txt2img", {"prompt": LONG, "steps": 0}),
        ("/sdapi/v1/img2img", {"init_images": [LONG]}),
        ("/sdapi/v1/png-info", {"image": LONG}),
        ("/sdapi/v1/extra-single-image", {"image": LONG}),
        ("/sdapi/v1/options", {"no_such_option": LONG}),
        ("/internal/progress", {"id_task": LONG}),
        ("/latentd/v1/jobs", {"init_images": [LONG]}),
    ],
)
def test_long_bodies_are_read_on_a_thread(client: TestClient, on_loop: Any, path: str, body: dict[str, Any]) -> None:
    reads = on_loop(routing, "read_json")
    whole = client.post(path, json=body)
    assert reads == [False]
    assert whole.status_code in (200, 404, 413, 422), whole.text


def test_long_bodies_are_checked_on_a_thread_and_only_there(client: TestClient, on_loop: Any) -> None:
    checks = on_loop(routing, "_checked")
    client.post("/sdapi/v1/img2img", json={"init_images": ["x"] * 2000})
    assert checks == [False]
    client.post("/sdapi/v1/img2img", json={"init_images": ["x"]})
    assert checks == [False]


def test_a_long_body_gives_what_a_short_one_gives(client: TestClient) -> None:
    spaces = " " * READ_AT_ONCE
    for path, text in (
        ("/sdapi/v1/img2img", '{"init_images": [{}], "steps": "x", "width": null}'),
        ("/sdapi/v1/img2img", '{"steps": 1'),
        ("/sdapi/v1/img2img", "null"),
        ("/sdapi/v1/img2img", "[]"),
        ("/sdapi/v1/img2img", "7"),
        ("/sdapi/v1/options", "[1]"),
        ("/sdapi/v1/txt2img", '[["steps", 0]]'),
        ("/sdapi/v1/txt2img", '{"prompt": "\\ud800", "steps": 0, "unknown": 1}'),
    ):
        for kind in ("application/json", "text/plain", "application/vnd.x+json"):
            headers = {"Content-Type": kind}
            short, long = (client.post(path, content=body, headers=headers) for body in (text, text + spaces))
            cut = short.json()
            assert long.status_code == short.status_code, text
            if "doc" not in json.dumps(cut):
                assert long.json() == cut, text


def test_unknown_fields_of_a_long_body_are_told(client: TestClient) -> None:
    body = {"unknown": LONG, "prompt": "a"}
    checked = routing._checked(body, routing.TypeAdapter(Img2ImgRequest))
    assert checked.unknown_fields == ("unknown",)


def test_faults_beyond_a_list_anybody_reads_are_counted(client: TestClient) -> None:
    few = client.post("/sdapi/v1/img2img", json={"init_images": [{}] * MOST_FAULTS})
    assert (few.status_code, len(few.json()["detail"])) == (422, MOST_FAULTS)
    many = client.post("/sdapi/v1/img2img", json={"init_images": [{}] * 2 * MOST_FAULTS})
    assert (many.status_code, many.json()["detail"]) == (422, f"the request is wrong in {2 * MOST_FAULTS} places")


def test_the_openapi_document_is_built_on_a_thread(latentd_app: AppFactory, on_loop: Any) -> None:
    builds = on_loop(openapi, "_document")
    client = latentd_app()
    assert client.get("/openapi.json").json()["openapi"].startswith("3.")
    assert builds == [False]


@pytest.mark.parametrize(
    "path",
    ["sd-models", "sd-vae", "loras", "embeddings", "hypernetworks", "prompt-styles", "latent-upscale-modes"],
)
def test_long_lists_are_written_on_a_thread(client: TestClient, on_loop: Any, monkeypatch: Any, path: str) -> None:
    monkeypatch.setattr(json_reply, "_is_long", lambda value, depth: depth == 0)
    writes = on_loop(SafeJSONResponse, "render")
    assert client.get(f"/sdapi/v1/{path}").status_code == 200
    assert writes[-1] is False


def test_a_late_answer_is_the_same_answer() -> None:
    content = {"images": ["A" * 2 * json_reply.PIECE], "n": float("nan")}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(LateJSONResponse(content)({"type": "http"}, None, send))  # type: ignore[arg-type]
    whole = SafeJSONResponse(content)
    assert sent[1]["body"] == whole.body
    assert sorted(sent[0]["headers"]) == sorted(whole.raw_headers)


@pytest.mark.parametrize("length", [0, 1, PIECE, PIECE + 1, 3 * PIECE])
def test_long_answers_are_handed_on_in_pieces(length: int) -> None:
    body = bytes(range(256)) * (length // 256) + bytes(length % 256)
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(PiecesMiddleware(app)({"type": "http"}, None, send))  # type: ignore[arg-type]
    parts = [message for message in sent if message["type"] == "http.response.body"]
    assert b"".join(part["body"] for part in parts) == body
    assert max(len(part["body"]) for part in parts) <= PIECE
    assert [part.get("more_body", False) for part in parts] == [True] * (len(parts) - 1) + [False]


def test_threads_that_read_bodies_are_few(client: TestClient) -> None:
    before = threading.active_count()
    for _ in range(10):
        client.post("/sdapi/v1/png-info", json={"image": LONG})
    assert threading.active_count() <= before + 6
