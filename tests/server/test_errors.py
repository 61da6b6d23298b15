"""Errors become replies in one place, in AUTOMATIC1111's bodies."""

from __future__ import annotations

import enum
from typing import Any, Literal

import pytest
from fastapi import APIRouter, HTTPException
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field, ValidationError

from latentd.api import LatentdError, NotFound
from latentd.errors import QueueFull
from latentd.hookspecs import hookimpl
from latentd.server.errors import v1_error
from latentd.testing import AppFactory


class Kind(enum.Enum):
    """An enumeration."""

    ONE = "one"
    TWO = "two"


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
            "memory": MemoryError("cannot allocate"),
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


def test_a_request_without_memory_fails_alone(raising: TestClient) -> None:
    reply = raising.get("/raising/v1/memory")
    assert (reply.status_code, reply.json()["detail"]) == (413, "out of memory")
    assert raising.get("/raising/v1/known").status_code == 404


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
        ("POST", "/sdapi/v1/create/embedding", "pip install ./plugins/training"),
        ("POST", "/sdapi/v1/train/hypernetwork", "pip install ./plugins/training"),
        ("POST", "/sdapi/v1/preprocess", "pip install ./plugins/training"),
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


class Fields(BaseModel):
    """A field for each kind of bound."""

    at_most: int = Field(0, le=8)
    below: float = Field(0, lt=1)
    above: float = Field(1, gt=0)
    even: int = Field(0, multiple_of=2)
    word: Literal["a", 'it\'s "b"', "x or y, z", 3, None] = "a"
    kind: Kind = None  # type: ignore[assignment]
    few: list[int] = Field([], max_length=2)
    text: str = Field("abc", min_length=2)
    number: int = 0


@pytest.mark.parametrize(
    ("given", "words", "kind", "context"),
    [
        ({"at_most": 9}, "ensure this value is less than or equal to 8", "number.not_le", {"limit_value": 8}),
        ({"below": 1}, "ensure this value is less than 1.0", "number.not_lt", {"limit_value": 1.0}),
        ({"above": 0}, "ensure this value is greater than 0.0", "number.not_gt", {"limit_value": 0.0}),
        ({"even": 3}, "ensure this value is a multiple of 2", "number.not_multiple", {"multiple_of": 2}),
        ({"few": [1, 2, 3]}, "ensure this value has at most 2 items", "list.max_items", {"limit_value": 2}),
        ({"text": "a"}, "ensure this value has at least 2 characters", "any_str.min_length", {"limit_value": 2}),
        (
            {"word": "c"},
            "unexpected value; permitted: 'a', 'it\\'s \"b\"', 'x or y, z', 3, None",
            "const",
            {"given": "c", "permitted": ["a", 'it\'s "b"', "x or y, z", 3, None]},
        ),
        (
            {"kind": "c"},
            "value is not a valid enumeration member; permitted: 'one', 'two'",
            "type_error.enum",
            {"enum_values": ["one", "two"]},
        ),
        ({"number": None}, "none is not an allowed value", "type_error.none.not_allowed", None),
        ({"number": "x"}, "value is not a valid integer", "type_error.integer", None),
    ],
)
def test_errors_are_those_of_pydantic_v1(given: Any, words: str, kind: str, context: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        Fields.model_validate(given)
    entry = v1_error(dict(refused.value.errors()[0]))
    full = kind if kind.startswith("type_error") else f"value_error.{kind}"
    assert entry == {"loc": [next(iter(given))], "msg": words, "type": full} | ({"ctx": context} if context else {})


def test_what_was_given_is_cut() -> None:
    entry = v1_error({"type": "literal_error", "loc": (), "msg": "", "ctx": {"expected": "1"}, "input": ["x" * 9999]})
    assert len(entry["ctx"]["given"]) == 1000
