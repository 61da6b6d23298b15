"""The OpenAPI document describes what is installed."""

from __future__ import annotations

from typing import Literal

from fastapi.testclient import TestClient
from pydantic import BaseModel, Field

from latentd.contributions import Script
from latentd.hookspecs import hookimpl
from latentd.testing import AppFactory

#: Sections of A1111's form, which its list of scripts has too.
SECTIONS = ["extra options", "Hypertile", "refiner", "seed"]


class FrameArgs(BaseModel):
    width: int = Field(4, ge=0, le=64)
    colour: Literal["black", "white"] = "black"


class Frame(Script):
    title = "Frame"
    alwayson = True
    Args = FrameArgs


class Frames:
    @hookimpl
    def register_scripts(self) -> list[Script]:
        return [Frame()]


def test_arguments_of_scripts_are_in_the_request(latentd_app: AppFactory) -> None:
    client = latentd_app(plugins=[Frames()])
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    always = schemas["Txt2ImgRequest"]["properties"]["alwayson_scripts"]["anyOf"][0]["properties"]
    by_name, by_position = always["frame"]["properties"]["args"]["anyOf"]
    assert schemas[by_name["$ref"].rpartition("/")[2]]["properties"]["width"]["maximum"] == 64
    assert len(by_position["prefixItems"]) == 2
    assert client.get("/sdapi/v1/scripts").json() == {mode: [*SECTIONS, "frame"] for mode in ("txt2img", "img2img")}


def test_every_operation_says_what_errors_look_like(planned: TestClient) -> None:
    document = planned.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert "default" in operation["responses"], path
            assert operation.get("description"), path


def test_credentials_are_described_where_they_are_asked_for(latentd_app: AppFactory) -> None:
    document = latentd_app(flags=["--api-auth", "a:b"]).get("/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"basic", "bearer"}
