"""What clients are told about plugins: whose route failed, and which arguments of a script are wrong or unknown."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field

from latentd.api import Script, hookimpl
from latentd.errors import InvalidRequest
from latentd.pipeline.planning.build import build_plan
from latentd.server.services import AppServices
from latentd.testing import AppFactory
from latentd.types import GenerationRequest


class Args(BaseModel):
    width: int = Field(8, ge=0)
    colour: str = Field("black", alias="color")


class Frame(Script):
    title, alwayson, Args = "Frame", True, Args


class Album(Script):
    title, Args = "Album", Args


class Strict(Script):
    """A script that will not do with its defaults."""

    title, Args = "Strict", Args

    def plan(self, plan: Any, args: Args, services: Any) -> None:
        raise InvalidRequest("no width is given", hint="give one")


class Answer(BaseModel):
    number: int


class Faulty:
    @hookimpl
    def register_scripts(self) -> list[Script]:
        return [Frame(), Album(), Strict()]

    @hookimpl
    def register_routes(self, services: Any) -> list[APIRouter]:
        router = APIRouter(prefix="/faulty/v1")

        @router.get("/raises")
        async def raises() -> None:
            raise KeyError("a secret")

        @router.get("/wrong", response_model=Answer)
        async def wrong() -> Any:
            return {"number": "many"}

        return [router]


@pytest.fixture
def faulty(latentd_app: AppFactory) -> TestClient:
    folder: Path = latentd_app.data_dir / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    (folder / "mine.safetensors").touch()
    return latentd_app(plugins=[Faulty()])


@pytest.mark.parametrize("path", ["/faulty/v1/raises", "/faulty/v1/wrong"])
def test_a_route_that_fails_names_its_plugin(faulty: TestClient, path: str, caplog: pytest.LogCaptureFixture) -> None:
    reply = faulty.get(path)
    assert reply.status_code == 500
    assert "a fault of plugin 'plugin0'" in reply.json()["hint"]
    assert "a secret" not in reply.text
    (record,) = (r for r in caplog.records if r.levelno == logging.ERROR)
    assert f"GET {path} failed unexpectedly, a fault of plugin 'plugin0'" in record.getMessage()


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        (
            {"alwayson_scripts": {"frame": {"args": [-1]}}},
            ["body", "alwayson_scripts", "frame", "args", "width"],
        ),
        (
            {"alwayson_scripts": {"Frame": {"args": {"width": -1}}}},
            ["body", "alwayson_scripts", "Frame", "args", "width"],
        ),
        ({"script_name": "album", "script_args": {"width": -1}}, ["body", "script_args", "Album", "width"]),
    ],
)
def test_a_wrong_argument_is_told_with_its_script(faulty: TestClient, body: dict[str, Any], loc: list[str]) -> None:
    reply = faulty.post("/sdapi/v1/txt2img", json=body)
    assert reply.status_code == 422
    assert reply.json()["detail"] == [
        {
            "loc": loc,
            "msg": "ensure this value is greater than or equal to 0",
            "type": "value_error.number.not_ge",
            "ctx": {"limit_value": 0},
        }
    ]


@pytest.mark.parametrize(
    ("body", "warnings"),
    [
        (
            {"alwayson_scripts": {"Frame": {"args": {"widht": 9, "color": "red"}}}},
            ["script 'Frame': no effect of argument 'widht' (did you mean 'width'?)"],
        ),
        (
            {"alwayson_scripts": {"Frame": {"args": [9, "red", True, 1]}}},
            ["script 'Frame': no effect of arguments after the first 2"],
        ),
        (
            {"script_name": "Album", "script_args": {"colour": "red", "zzz": 1}},
            [
                "script 'Album': no effect of argument 'colour' (did you mean 'color'?)",
                "script 'Album': no effect of argument 'zzz'",
            ],
        ),
        ({"alwayson_scripts": {"Frame": {"args": [9, "red"]}}}, []),
        ({"alwayson_scripts": {"Frame": {"args": {"width": 9}}}}, []),
    ],
)
def test_arguments_that_no_script_has_are_told(faulty: TestClient, body: dict[str, Any], warnings: list[str]) -> None:
    services: AppServices = faulty.app.state.services  # type: ignore[attr-defined]
    plan = build_plan(GenerationRequest(prompt="a cat", **body), services)
    assert list(plan.warnings) == warnings


def test_what_does_not_act_is_told_where_the_script_is_refused(faulty: TestClient) -> None:
    reply = faulty.post("/sdapi/v1/txt2img", json={"script_name": "Strict", "script_args": {"widht": 9}})
    assert reply.status_code == 422
    assert reply.json()["hint"] == "give one; script 'Strict': no effect of argument 'widht' (did you mean 'width'?)"
