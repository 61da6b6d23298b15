"""The OpenAPI document, in a form that generators of clients can process.

Components have AUTOMATIC1111's names where it has them. Each has a name and title of its own, and no reference points
into the inside of a component. The document includes the arguments of the installed scripts, the options and flags, and
the form of errors.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from latentd.server import openapi_options, openapi_scripts
from latentd.server.json_reply import SafeJSONResponse
from latentd.server.openapi_tidy import REFERENCE, tidy
from latentd.server.public import DOCUMENT
from latentd.server.schemas.generation import Img2ImgJob, Txt2ImgJob
from latentd.server.schemas.jobs import EXAMPLES, JobEvent
from latentd.types import JsonValue

if TYPE_CHECKING:
    from latentd.server.services import AppServices

JSON = "application/json"
_SENTENCE_END = re.compile(r"[.:;]\s|\.$")
_ERROR = {
    "type": "object",
    "title": "ErrorResponse",
    "description": "Every error that a handler declares, in AUTOMATIC1111's keys.",
    "required": ["error", "detail", "body", "errors"],
    "properties": {
        "error": {"type": "string", "description": "Class of the error."},
        "detail": {"description": "What is wrong, in one sentence."},
        "body": {"type": "string"},
        "errors": {"type": "string"},
        "hint": {"type": "string", "description": "What to do about it."},
    },
    "examples": [{"error": "HTTPException", "detail": "steps is 0; it must be at least 1", "body": "", "errors": ""}],
}
_JOBS: tuple[type[BaseModel], ...] = (Txt2ImgJob, Img2ImgJob)


# --- for routes ------------------------------------------------------------------------------------------------------


def reply_of(model: type[BaseModel]) -> dict[str, JsonValue]:
    """Arguments of a route whose reply ``model`` describes; the reply is not validated or filtered by it."""
    return {"response_model": None, "responses": {200: {"model": model}}}


def binary(*media_types: str) -> dict[str, JsonValue]:
    """``content`` of a reply that is a file of one of these types."""
    return {media: {"schema": {"type": "string", "format": "binary"}} for media in media_types}


def event_stream(model: type[BaseModel]) -> dict[str, JsonValue]:
    """``content`` of a reply that is a stream of server-sent events, each like ``model``."""
    schema = {"type": "string", "contentMediaType": "text/event-stream", "contentSchema": _ref(model.__name__)}
    return {"text/event-stream": {"schema": schema}}


# --- the document ----------------------------------------------------------------------------------------------------


def describe(app: FastAPI, services: AppServices) -> Callable[[], dict[str, JsonValue]]:
    """A replacement for ``app.openapi``, which builds the document at its first call and keeps it."""

    def openapi() -> dict[str, JsonValue]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, services)
        return app.openapi_schema

    return openapi


def serve_document(app: FastAPI) -> None:
    """Add the route of the document. FastAPI's own route would build it on the event loop."""

    async def openapi(request: Request) -> Response:
        prefix = request.scope.get("root_path", "").rstrip("/")
        return await asyncio.to_thread(lambda: SafeJSONResponse(_below(prefix, app.openapi())))

    app.add_route(DOCUMENT, openapi, include_in_schema=False)


def _below(prefix: str, document: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """``document`` with the server's address below ``prefix``."""
    return {**document, "servers": [{"url": prefix}, *document.get("servers", [])]} if prefix else document


def _document(app: FastAPI, services: AppServices) -> dict[str, JsonValue]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        routes=app.routes,
        openapi_version=app.openapi_version,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["ErrorResponse"] = _ERROR
    schemas["UnprocessableResponse"] = {
        "description": "A field is wrong by itself, or the request as a whole.",
        "anyOf": [_ref("HTTPValidationError"), _ref("ErrorResponse")],
    }
    _add_unknown(schemas)
    body = document["paths"]["/latentd/v1/jobs"]["post"]["requestBody"]["content"][JSON]
    body["schema"] = {"anyOf": [_ref(model.__name__) for model in _JOBS]}
    for path in document["paths"].values():
        for operation in path.values():
            _finish(operation)
    if services.settings.api_auth or services.settings.api_key:
        _secure(document)
    openapi_options.join(document, services.options)
    openapi_scripts.join(schemas, list(services.registry.scripts.values()))
    tidy(document)
    return document


def _add_unknown(schemas: dict[str, JsonValue]) -> None:
    """Add what FastAPI does not see: models of bodies that a route reads itself and of event streams, and examples."""
    unknown: tuple[type[BaseModel], ...] = (*_JOBS, JobEvent)
    models: list[tuple[type[BaseModel], Literal["serialization"]]] = [(model, "serialization") for model in unknown]
    _, found = models_json_schema(models, ref_template=REFERENCE + "{model}")
    for name, schema in found["$defs"].items():
        schemas.setdefault(name, schema)
    for name, example in EXAMPLES.items():
        schemas[name]["examples"] = [example]


def _finish(operation: dict[str, JsonValue]) -> None:
    """Make an operation's first sentence its summary, in place of the route's name, and add the errors it may give."""
    if description := operation.get("description"):
        operation["summary"] = _SENTENCE_END.split(description, maxsplit=1)[0]
    replies = operation["responses"]
    for media in replies.get("200", {}).get("content", {}).values():
        media.pop("itemSchema", None)  # FastAPI's keyword for event streams, which only OpenAPI 3.2 knows
    replies.setdefault("default", {"description": "Any error", "content": {JSON: {"schema": _ref("ErrorResponse")}}})
    if "422" in replies:
        replies["422"]["content"][JSON]["schema"] = _ref("UnprocessableResponse")


def _secure(document: dict[str, JsonValue]) -> None:
    schemes = {"basic": {"type": "http", "scheme": "basic"}, "bearer": {"type": "http", "scheme": "bearer"}}
    document["components"]["securitySchemes"] = schemes
    document["security"] = [{name: []} for name in schemes]


def _ref(name: str) -> dict[str, str]:
    return {"$ref": REFERENCE + name}
