"""What every reply carries, and what no request may do."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import pytest
from fastapi import APIRouter, Request, Response
from fastapi.testclient import TestClient

from latentd.hookspecs import hookimpl
from latentd.server.middleware import cors_arguments
from latentd.services import Services
from latentd.testing import AppFactory
from latentd.types import JsonValue


def test_replies_say_how_long_they_took(client: TestClient) -> None:
    seconds = client.get("/sdapi/v1/samplers").headers["x-process-time"]
    assert 0 <= float(seconds) < 60
    assert len(seconds.partition(".")[2]) <= 4


def test_long_replies_are_compressed_when_the_client_agrees(client: TestClient) -> None:
    assert client.get("/sdapi/v1/samplers", headers={"Accept-Encoding": "gzip"}).headers["content-encoding"] == "gzip"
    assert "content-encoding" not in client.get("/sdapi/v1/samplers", headers={"Accept-Encoding": "identity"}).headers
    assert "content-encoding" not in client.get("/livez", headers={"Accept-Encoding": "gzip"}).headers


def test_origins_are_allowed_by_flag_alone(latentd_app: AppFactory) -> None:
    headers = {"Origin": "https://a.example"}
    assert "access-control-allow-origin" not in latentd_app().get("/livez", headers=headers).headers
    client = latentd_app(flags=["--cors-allow-origins", "https://a.example,https://b.example"])
    reply = client.get("/livez", headers=headers)
    assert reply.headers["access-control-allow-origin"] == "https://a.example"
    assert reply.headers["access-control-allow-credentials"] == "true"
    exposed = reply.headers["access-control-expose-headers"].split(", ")
    assert {"X-Latentd-Job", "Location", "Retry-After"} <= set(exposed)


def test_a_preflight_needs_no_credentials(latentd_app: AppFactory) -> None:
    client = latentd_app(flags=["--cors-allow-origins-regex", "https://.*\\.example", "--api-auth", "a:b"])
    headers = {"Origin": "https://x.example", "Access-Control-Request-Method": "POST"}
    assert client.options("/sdapi/v1/txt2img", headers=headers).status_code == 200


@pytest.mark.parametrize(("origin", "status"), [("https://a.example", 200), ("https://evil.example", 400)])
def test_a_preflight_for_a_private_network(latentd_app: AppFactory, origin: str, status: int) -> None:
    client = latentd_app(flags=["--cors-allow-origins", "https://a.example"])
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    asked = {**headers, "Access-Control-Request-Private-Network": "true"}
    reply = client.options("/sdapi/v1/txt2img", headers=asked)
    assert reply.status_code == status
    assert reply.headers.get("access-control-allow-private-network") == ("true" if status == 200 else None)
    assert "access-control-allow-private-network" not in client.options("/sdapi/v1/txt2img", headers=headers).headers


def test_a_pattern_that_is_none_is_told() -> None:
    with pytest.raises(ValueError, match="--cors-allow-origins-regex"):
        cors_arguments(None, "(")


def test_api_log_writes_a_line_for_api_requests_only(latentd_app: AppFactory, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="latentd.api")
    client = latentd_app(flags=["--api-log"])
    for path in ("/sdapi/v1/samplers", "/livez", "/latentd/v1/jobs", "/internal/ping", "/controlnet/version"):
        client.get(path)
    lines = [record.getMessage() for record in caplog.records if record.name == "latentd.api"]
    assert ["GET /sdapi/v1/samplers" in lines[0], "GET /latentd/v1/jobs" in lines[1]] == [True, True]
    assert "GET /controlnet/version" in lines[2]
    assert " 200 " in lines[0]
    assert len(lines) == 3


@pytest.mark.parametrize("path", ["/sdapi/v1/samplers", "/sd/sdapi/v1/samplers", "/sd/latentd/v1/jobs"])
def test_api_log_knows_the_prefix(latentd_app: AppFactory, caplog: pytest.LogCaptureFixture, path: str) -> None:
    caplog.set_level(logging.INFO, logger="latentd.api")
    latentd_app(flags=["--api-log", "--subpath", "sd"]).get(path)
    assert [f"GET {path}" in record.getMessage() for record in caplog.records if record.name == "latentd.api"] == [True]


def test_the_job_is_named_in_the_log_and_in_the_reply_even_where_it_failed(
    latentd_app: AppFactory, caplog: pytest.LogCaptureFixture
) -> None:
    folder = latentd_app.data_dir / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    (folder / "broken.safetensors").write_bytes(b"no weights")
    caplog.set_level(logging.INFO, logger="latentd.api")
    reply = latentd_app(flags=["--api-log"]).post("/sdapi/v1/txt2img", json={"force_task_id": "task(mine)", "steps": 1})
    assert (reply.status_code, reply.headers["x-latentd-job"]) == (422, "task(mine)")
    lines = [record.getMessage() for record in caplog.records if record.name == "latentd.api"]
    assert [line.endswith(" job task(mine)") for line in lines] == [True]


@pytest.mark.parametrize(
    ("task_id", "header"),
    [
        (" task", "%20task"),
        ("task ", "task%20"),
        ("task(ü)", "task(%C3%BC)"),
        ("50%", "50%25"),
        ("a-b_c.d~e", "a-b_c.d~e"),
    ],
)
def test_any_id_fits_in_the_header(with_checkpoint: TestClient, task_id: str, header: str) -> None:
    reply = with_checkpoint.post("/sdapi/v1/txt2img", json={"force_task_id": task_id, "steps": 1})
    assert reply.headers["x-latentd-job"] == header


@pytest.mark.parametrize("value", [" a", "a ", "a\tb\x0b", "a\r\nX: b", "a\x00"])
def test_a_header_that_cannot_be_sent_is_a_fault_of_its_route(latentd_app: AppFactory, value: str) -> None:
    router = APIRouter()

    @router.get("/mine")
    def mine() -> Response:
        return Response(headers={"X-Mine": value})

    class Plugin:
        @hookimpl
        def register_routes(self, services: object) -> list[APIRouter]:
            return [router]

    reply = latentd_app([Plugin()]).get("/mine")
    assert reply.status_code == 500
    assert "x-mine" not in reply.headers
    assert reply.json()["error"] == "ValueError"


def test_a_prefix_that_a_proxy_strips_appears_in_links(latentd_app: AppFactory) -> None:
    client = latentd_app(flags=["--subpath", "sd"])
    assert client.get("/openapi.json").json()["servers"] == [{"url": "/sd"}]
    assert client.get("/sd/livez").status_code == 200


class Door:
    """A plugin that has errors in a form of its own below /door, and is told of every reply."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, int]] = []

    @hookimpl
    def register_routes(self, services: object) -> list[APIRouter]:
        router = APIRouter(prefix="/door")

        @router.get("/{number}")
        def door(number: int) -> None:
            raise KeyError(number)

        return [router]

    @hookimpl
    def error_reply(self, path: str, status: int, document: Any) -> tuple[int, Any] | None:
        return (status + 1, {"said": document}) if path.startswith("/door/") else None

    @hookimpl
    def request_done(self, method: str, route: str, status: int, seconds: float) -> None:
        assert 0 <= seconds < 60
        self.told.append((method, route, status))


@pytest.mark.parametrize("prefix", ["", "/sd"])
def test_errors_below_a_plugins_paths_are_in_its_form_whoever_made_them(latentd_app: AppFactory, prefix: str) -> None:
    door = Door()
    flags = ["--api-key", "secret", *(["--subpath", "sd"] if prefix else [])]
    client = latentd_app([door], flags)
    key = {"Authorization": "Bearer secret"}
    for path, headers, status, text in (
        ("/door/1", {}, 402, "Not authenticated"),
        ("/door/x", key, 423, "value is not a valid integer"),
        ("/door/1", key, 501, "KeyError"),
        ("/door/1/2", key, 405, "Not Found"),
    ):
        reply = client.get(prefix + path, headers=headers)
        assert (reply.status_code, text in str(reply.json()["said"])) == (status, True), reply.text
    assert client.get(f"{prefix}/sdapi/v1/none", headers=key).json() == {"detail": "Not Found"}
    whole = {"Accept-Encoding": "gzip", **key}
    assert client.get(f"{prefix}/door/x", headers=whole).json()["said"]["detail"][0]["loc"] == ["path", "number"]


def test_an_observer_is_told_of_every_reply_by_its_route(latentd_app: AppFactory) -> None:
    door = Door()
    client = latentd_app([door])
    for path in ("/door/7", "/none", "/latentd/v1/jobs/none"):
        client.get(path)
    assert door.told == [("GET", "/door/{number}", 501), ("GET", "", 404), ("GET", "/latentd/v1/jobs/{job_id}", 404)]


CALLER: ContextVar[str] = ContextVar("caller")


class Follower:
    """A plugin that follows a request from its arrival to its reply by a context variable."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    @hookimpl
    def request_begun(self, request: Request) -> None:
        CALLER.set(request.headers["caller"])

    @hookimpl
    def register_routes(self, services: Services) -> list[APIRouter]:
        router = APIRouter(prefix="/follow")

        @router.get("/queue")
        async def queue() -> None:
            self.seen.append(("route", CALLER.get()))
            await services.run_on_worker(lambda control: None, kind="nothing")

        @router.get("/thread")
        def thread() -> None:
            self.seen.append(("thread", CALLER.get()))

        return [router]

    @hookimpl
    def job_event(self, job_id: str, event: str, data: Mapping[str, JsonValue]) -> None:
        if event == "queued":
            self.seen.append((str(data["kind"]), CALLER.get("nobody")))

    @hookimpl
    def request_done(self, method: str, route: str, status: int, seconds: float) -> None:
        self.seen.append((str(status), CALLER.get()))


def test_what_a_plugin_notes_of_a_request_is_there_until_its_reply_and_nowhere_else(latentd_app: AppFactory) -> None:
    follower = Follower()
    client = latentd_app([follower], ["--api-key", "secret"])
    key = {"Authorization": "Bearer secret"}
    client.get("/follow/queue", headers={"caller": "a", **key})
    client.get("/follow/thread", headers={"caller": "b", **key})
    client.get("/follow/thread", headers={"caller": "c"})
    assert follower.seen == [
        *(("route", "a"), ("nothing", "a"), ("200", "a")),
        *(("thread", "b"), ("200", "b")),
        ("401", "c"),
    ]
