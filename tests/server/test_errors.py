"""Errors become replies in one place, in AUTOMATIC1111's bodies."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, HTTPException
from fastapi.testclient import TestClient

from latentd.api import LatentdError, NotFound
from latentd.errors import QueueFull
from latentd.hookspecs import hookimpl
from latentd.server.errors import v1_error
from latentd.testing import AppFactory


class Raising:
    """A plugin whose routes raise what they are asked for."""

    @hookimpl
    def register_routes(self, services: object) -> list[APIRouter]:
        router = APIRouter(prefix="/raising/v1")
        errors: dict[str, Exception] = {
            "known": NotFound("thing not found", hint="look elsewhere"),
            "full": QueueFull("the queue is full", retry_after=7),
            "declared": HTTPException(418, "teapot"),
            "broken": LatentdError("it broke"),
            "unexpected": ValueError("the password is hunter2"),
        }

        @router.get("/{name}")
        async def fail(name: str) -> None:
            raise errors[name]

        return [router]


@pytest.fixture
def raising(latentd_app: AppFactory) -> TestClient:
    return latentd_app(plugins=[Raising()])


def test_an_error_has_four_keys_and_a_hint(raising: TestClient) -> None:
    reply = raising.get("/raising/v1/known")
    assert reply.status_code == 404
    assert reply.json() == {
        "error": "HTTPException",
        "detail": "thing not found",
        "body": "",
        "errors": "",
        "hint": "look elsewhere",
    }


def test_a_full_queue_says_when_to_come_back(raising: TestClient) -> None:
    reply = raising.get("/raising/v1/full")
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "7")


def test_declared_http_errors_have_the_same_body(raising: TestClient) -> None:
    reply = raising.get("/raising/v1/declared")
    assert reply.status_code == 418
    assert reply.json() == {"error": "HTTPException", "detail": "teapot", "body": "", "errors": ""}


def test_a_server_error_names_its_class(raising: TestClient) -> None:
    reply = raising.get("/raising/v1/broken")
    assert (reply.status_code, reply.json()["error"]) == (500, "LatentdError")


def test_an_unexpected_error_gives_an_id_and_nothing_away(
    raising: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    reply = raising.get("/raising/v1/unexpected")
    assert (reply.status_code, reply.json()["error"]) == (500, "ValueError")
    assert "hunter2" not in reply.text
    number = reply.json()["errors"].rpartition(" ")[2]
    assert number in caplog.text
    assert "hunter2" in caplog.text


def test_unknown_paths_and_methods_have_the_default_bodies(client: TestClient) -> None:
    unknown, wrong = client.get("/nope"), client.get("/sdapi/v1/txt2img")
    assert (unknown.status_code, unknown.json()) == (404, {"detail": "Not Found"})
    assert (wrong.status_code, wrong.json()) == (405, {"detail": "Method Not Allowed"})


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("GET", "/controlnet/version", "pip install ./plugins/controlnet"),
        ("POST", "/sdapi/v1/create/embedding", "no plugin brings it"),
        ("POST", "/sdapi/v1/train/hypernetwork", "no plugin brings it"),
        ("POST", "/sdapi/v1/preprocess", "no plugin brings it"),
    ],
)
def test_a_missing_plugins_route_says_what_to_do(client: TestClient, method: str, path: str, words: str) -> None:
    reply = client.request(method, path)
    assert reply.status_code == 404
    assert words in reply.json()["detail"]


def test_limits_come_with_their_value() -> None:
    entry = v1_error({"type": "greater_than_equal", "loc": ("w",), "msg": "-", "ctx": {"ge": 1}}, ("body",))
    assert entry == {
        "loc": ["body", "w"],
        "msg": "ensure this value is greater than or equal to 1",
        "type": "value_error.number.not_ge",
        "ctx": {"limit_value": 1},
    }
