"""What every reply carries, and what no request may do."""

from __future__ import annotations

import logging

import pytest
from fastapi import APIRouter, Response
from fastapi.testclient import TestClient

from latentd.hookspecs import hookimpl
from latentd.server.middleware import cors_arguments
from latentd.testing import AppFactory


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
