"""The OpenAPI document describes what is installed, and generators of clients can use it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field

from latentd.contributions import OptionSpec
from latentd.generations import Script
from latentd.hookspecs import hookimpl
from latentd.server.app import create_app
from latentd.server.openapi_tidy import tidy
from latentd.settings import parse_settings
from latentd.testing import AppFactory

#: Sections of A1111's form, which its list of scripts has too.
SECTIONS = ["extra options", "Hypertile", "refiner", "seed"]
REFERENCE = "#/components/schemas/"
AUTOMATIC1111 = json.loads((Path(__file__).parent / "data" / "automatic1111_openapi.json").read_text())


class Colour(BaseModel):
    name: str = "black"


class FrameArgs(BaseModel):
    width: int = Field(4, ge=0, le=64, title="Width of the frame")
    kind: Literal["plain", "round", 0] = "plain"
    colour: Colour = Colour()


class Frame(Script):
    title = "Frame's 2/3"
    alwayson = True
    Args = FrameArgs


class Frames:
    @hookimpl
    def register_scripts(self) -> list[Script]:
        return [Frame()]

    @hookimpl
    def register_options(self) -> list[OptionSpec]:
        return [OptionSpec(key="frame_width", default=4, help="Width of frames", maximum=64)]


@pytest.fixture(scope="module", params=["core", "everything"])
def document(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The document of the core with a small plugin, and of all that is installed here."""
    flags = ["--data-dir", str(tmp_path_factory.mktemp("data")), "--api-server-stop"]
    if request.param == "core":
        return json_copy(app_of([*flags, "--core-only"], extra_plugins=[("frames", Frames())]).openapi())
    return json_copy(app_of(flags).openapi())


def app_of(flags: list[str], **arguments: Any) -> FastAPI:
    return create_app(parse_settings(flags, environment={}), **arguments)


def json_copy(document: Any) -> Any:
    return json.loads(json.dumps(document))


def inside(node: Any) -> Iterator[dict[str, Any]]:
    """Every object below ``node``, except what stands for itself (examples, defaults)."""
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key not in ("examples", "example", "default"):
                yield from inside(value)
    elif isinstance(node, list):
        for value in node:
            yield from inside(value)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


# --- names -----------------------------------------------------------------------------------------------------------


def test_every_reference_is_to_a_component_that_is_there(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    found = {node["$ref"] for node in inside(document) if isinstance(node.get("$ref"), str)}
    assert found
    assert [ref for ref in found if not ref.startswith(REFERENCE) or ref.removeprefix(REFERENCE) not in schemas] == []


def test_every_component_is_referred_to(document: dict[str, Any]) -> None:
    found = {node["$ref"].removeprefix(REFERENCE) for node in inside(document) if isinstance(node.get("$ref"), str)}
    assert set(document["components"]["schemas"]) - found == set()


def test_components_have_names_and_titles_of_their_own(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert {name: schema["title"] for name, schema in schemas.items()} == {name: name for name in schemas}
    assert [name for name in schemas if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._]*", name)] == []
    # Generators make their class names of these.
    assert [name for name, count in Counter(re.sub("[._]", "", n).lower() for n in schemas).items() if count > 1] == []


def test_no_class_is_named_inside_a_component(document: dict[str, Any]) -> None:
    components = [id(schema) for schema in document["components"]["schemas"].values()]
    titled = [node for node in inside(document) if isinstance(node.get("title"), str) and id(node) not in components]
    titled.remove(document["info"])
    scalars = "boolean", "integer", "number", "string"
    assert [node for node in titled if "enum" in node or node.get("type") not in scalars] == []


def test_values_of_signs_alone_have_names_for_generators() -> None:
    fields = {"syntax": {"enum": ["off", "{ }", "< >", "First Line"]}, "mode": {"enum": ["Basic", "a b"]}}
    found: dict[str, Any] = {"components": {"schemas": {"One": {"title": "One", "properties": fields}}}, "paths": {}}
    tidy(found)
    properties = found["components"]["schemas"]["One"]["properties"]
    names = ["Off", "LeftCurlyBracketRightCurlyBracket", "LessThanSignGreaterThanSign", "FirstLine"]
    assert properties["syntax"]["x-enum-varnames"] == names
    assert properties["mode"] == {"enum": ["Basic", "a b"]}


def test_enumerations_are_of_one_type(document: dict[str, Any]) -> None:
    enums = [node["enum"] for node in inside(document) if isinstance(node.get("enum"), list)]
    assert enums
    assert [values for values in enums if len({type(value) for value in values}) > 1] == []


def test_a_choice_is_between_things_that_differ(document: dict[str, Any]) -> None:
    choices = [node["anyOf"] for node in inside(document) if isinstance(node.get("anyOf"), list)]
    assert choices
    assert [ways for ways in choices if {} in ways or len(ways) < 2] == []


def test_operations_have_ids_of_their_own(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    assert [name for name in ids if not re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", name)] == []
    assert {"submit_job", "list_jobs", "get_job", "cancel_job", "get_job_events"} <= set(ids)


@pytest.mark.parametrize("document", ["everything"], indirect=True)
def test_what_automatic1111_has_bears_its_names(document: dict[str, Any]) -> None:
    ids = {name: operation["operationId"] for name, operation in operations(document)}
    assert {name: ids.get(name) for name in AUTOMATIC1111["operations"]} == AUTOMATIC1111["operations"]
    schemas = document["components"]["schemas"]
    fields = {name: schemas.get(name, {}).get("properties", {}) for name in AUTOMATIC1111["schemas"]}
    missing = {name: set(wanted) - set(fields[name]) for name, wanted in AUTOMATIC1111["schemas"].items()}
    assert {name: names for name, names in missing.items() if names or name not in schemas} == {}


# --- contents --------------------------------------------------------------------------------------------------------


def test_arguments_of_scripts_are_in_the_request(latentd_app: AppFactory) -> None:
    client = latentd_app(plugins=[Frames()])
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for body in "StableDiffusionProcessingTxt2Img", "StableDiffusionProcessingImg2Img", "Txt2ImgJob", "Img2ImgJob":
        always = schemas[body]["properties"]["alwayson_scripts"]["anyOf"][0]["properties"]
        by_name, by_position = always["frame's 2/3"]["properties"]["args"]["anyOf"]
        assert by_name == {"$ref": REFERENCE + "Frames23Arguments"}
        assert by_position["description"] == "By position: width, kind, colour."
    fields = schemas["Frames23Arguments"]["properties"]
    assert fields["width"]["maximum"] == 64
    assert fields["width"]["title"] == "Width of the frame"
    titles = {mode: [*SECTIONS, "frame's 2/3"] for mode in ("txt2img", "img2img")}
    assert client.get("/sdapi/v1/scripts").json() == titles


def test_every_operation_says_what_errors_look_like(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["responses"]["default"]["content"], name
        assert operation.get("description"), name
        assert operation["description"].startswith(operation["summary"]), name
    assert "``" not in json.dumps(document), "descriptions are Markdown"


def test_every_reply_with_a_body_says_of_what_type(document: dict[str, Any]) -> None:
    """A file or a text is never taken for JSON: generated clients read what the media type says."""
    media = {name: sorted(operation["responses"]["200"]["content"]) for name, operation in operations(document)
             if "200" in operation["responses"]}  # fmt: skip
    pictures = ["image/avif", "image/jpeg", "image/png", "image/webp"]
    assert media.pop("GET /latentd/v1/jobs/{job_id}/images/{index}") == pictures
    assert media.pop("GET /latentd/v1/jobs/{job_id}/preview") == pictures
    for stream in ("GET /latentd/v1/jobs/{job_id}/events", "GET /latentd/v1/events"):
        assert media.pop(stream) == ["text/event-stream"]
    assert media.pop("GET /sd_extra_networks/thumb") == ["image/gif", *pictures[1:]]
    assert media.pop("POST /sdapi/v1/server-stop") == ["text/plain"]
    # Of plugins; the images API streams where it is asked to.
    assert media.pop("GET /metrics", ["text/plain"]) == ["text/plain"]
    assert media.pop("GET /v1/images/files/{name}", pictures[1:]) == pictures[1:]
    for name in [name for name in media if name.startswith("POST /v1/images/")]:
        assert media.pop(name) == ["application/json", "text/event-stream"]
    both = {name: types for name, types in media.items() if types != ["application/json"]}
    assert all(types == ["application/json", *pictures[1:]] for types in both.values())
    assert {"POST /sdapi/v1/txt2img", "POST /sdapi/v1/img2img"} <= set(both)


def test_options_are_fields(latentd_app: AppFactory) -> None:
    client = latentd_app(plugins=[Frames()])
    document = client.get("/openapi.json").json()
    fields = document["components"]["schemas"]["Options"]["properties"]
    values = client.get("/sdapi/v1/options").json()
    assert set(fields) == set(values)
    assert fields["frame_width"] == {
        "type": "number", "description": "Width of frames (default: 4)", "maximum": 64,
    }  # fmt: skip
    assert [key for key, value in values.items() if not _fits(value, fields[key])] == []
    assert not any("default" in field for field in fields.values()), "clients send what has a default"
    set_options = document["paths"]["/sdapi/v1/options"]["post"]["requestBody"]["content"]["application/json"]
    assert set_options["schema"]["$ref"] == REFERENCE + "Options"


def test_flags_are_fields(latentd_app: AppFactory) -> None:
    client = latentd_app(flags=["--max-queue", "7", "--api-auth", "a:b", "--device-id", "1"])
    fields = client.get("/openapi.json").json()["components"]["schemas"]["Flags"]["properties"]
    values = client.get("/sdapi/v1/cmd-flags", auth=("a", "b")).json()
    assert set(fields) == set(values)
    assert {key: value for key, value in values.items() if not _fits(value, fields[key])} == {}


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value is of one of the schema's types; 1.0 is no integer here."""
    kinds: dict[str, Any] = {
        "null": type(None),
        "boolean": bool,
        "integer": int,
        "number": (int, float),
        "string": str,
        "array": list,
        "object": dict,
    }
    if "anyOf" in schema:
        return any(_fits(value, way) for way in schema["anyOf"])
    if isinstance(value, bool):
        return bool(schema["type"] == "boolean")
    return isinstance(value, kinds[schema["type"]])


def test_credentials_are_described_where_they_are_asked_for(latentd_app: AppFactory) -> None:
    document = latentd_app(flags=["--api-auth", "a:b"]).get("/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"basic", "bearer"}
