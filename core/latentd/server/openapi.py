"""The OpenAPI document, with the arguments of the installed scripts and the shape of errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

if TYPE_CHECKING:
    from latentd.contributions import Script
    from latentd.server.services import AppServices

_REFERENCE = "#/components/schemas/"
_ERROR = {
    "type": "object",
    "title": "Error",
    "description": "Every error that a handler declares, in AUTOMATIC1111's keys.",
    "required": ["error", "detail", "body", "errors"],
    "properties": {
        "error": {"type": "string", "description": "Class of the error."},
        "detail": {"description": "What is wrong, in one sentence."},
        "body": {"type": "string"},
        "errors": {"type": "string"},
        "hint": {"type": "string", "description": "What to do about it."},
    },
}


def describe(app: FastAPI, services: AppServices) -> Callable[[], dict[str, Any]]:
    """What to put in place of ``app.openapi``: builds the document at its first call and keeps it."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, services)
        return app.openapi_schema

    return openapi


def _document(app: FastAPI, services: AppServices) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        routes=app.routes,
        openapi_version=app.openapi_version,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Error"] = _ERROR
    for path in document["paths"].values():
        for operation in path.values():
            content = {"application/json": {"schema": {"$ref": _REFERENCE + "Error"}}}
            operation["responses"].setdefault("default", {"description": "Any error", "content": content})
    if services.settings.api_auth or services.settings.api_key:
        _secure(document)
    for mode, name in (("txt2img", "Txt2ImgRequest"), ("img2img", "Img2ImgRequest")):
        if name in schemas:
            _join_scripts(schemas, schemas[name], [s for s in services.registry.scripts.values() if mode in s.modes])
    return document


def _secure(document: dict[str, Any]) -> None:
    schemes = {"basic": {"type": "http", "scheme": "basic"}, "bearer": {"type": "http", "scheme": "bearer"}}
    document["components"]["securitySchemes"] = schemes
    document["security"] = [{name: []} for name in schemes]


def _join_scripts(schemas: dict[str, Any], request: dict[str, Any], scripts: list[Script]) -> None:
    """Say what ``alwayson_scripts`` and ``script_args`` take, script by script."""
    always = {script.title.lower(): _entry(schemas, script) for script in scripts if script.alwayson}
    if always:
        described = request["properties"]["alwayson_scripts"]
        described["anyOf"] = [{"type": "object", "properties": always, "additionalProperties": True}, {"type": "null"}]
    selectable = [script for script in scripts if not script.alwayson]
    if selectable:
        alternatives = [{"title": script.title, **way} for script in selectable for way in _arguments(schemas, script)]
        anything = [{"type": "array", "items": {}}, {"type": "object", "additionalProperties": True}, {"type": "null"}]
        request["properties"]["script_args"]["anyOf"] = alternatives + anything


def _entry(schemas: dict[str, Any], script: Script) -> dict[str, Any]:
    return {
        "type": "object",
        "title": script.title,
        "properties": {"args": {"anyOf": _arguments(schemas, script)}},
        "additionalProperties": True,
    }


def _arguments(schemas: dict[str, Any], script: Script) -> list[dict[str, Any]]:
    """The two ways to give a script's arguments: by name, and by position."""
    name = f"{script.title} arguments".replace(" ", "_")
    schema = script.Args.model_json_schema(ref_template=_REFERENCE + "{model}")
    schemas.update({key: value for key, value in schema.pop("$defs", {}).items() if key not in schemas})
    schemas[name] = schema
    reference = _REFERENCE + name.replace("~", "~0").replace("/", "~1")
    positions = [{"$ref": f"{reference}/properties/{field}"} for field in schema.get("properties", {})]
    by_position: dict[str, Any] = {"type": "array", "items": {}}
    if positions:
        by_position["prefixItems"] = positions
    return [{"$ref": reference}, by_position]
