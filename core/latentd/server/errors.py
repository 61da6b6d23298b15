"""Replies for errors, in the form of AUTOMATIC1111's with a hint added (rules: a1111-errors)."""

from __future__ import annotations

import ast
import logging
import re
import secrets
from collections.abc import Mapping, Sequence

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException as RoutingError
from starlette.responses import Response

from latentd.arguments import InvalidArguments
from latentd.errors import LatentdError, OutOfMemory, QueueFull
from latentd.plugins.catalogue import path_hint
from latentd.server.json_reply import SafeJSONResponse
from latentd.types import JsonValue

log = logging.getLogger(__name__)

# pydantic's error type -> (pydantic v1's type, its message); values of the error's context replace the braces.
_V1: Mapping[str, tuple[str, str]] = {
    "missing": ("value_error.missing", "field required"),
    "list_type": ("type_error.list", "value is not a valid list"),
    "dict_type": ("type_error.dict", "value is not a valid dict"),
    "model_attributes_type": ("type_error.dict", "value is not a valid dict"),
    "model_type": ("type_error.dict", "value is not a valid dict"),
    "string_type": ("type_error.str", "str type expected"),
    "int_parsing": ("type_error.integer", "value is not a valid integer"),
    "int_type": ("type_error.integer", "value is not a valid integer"),
    "int_from_float": ("type_error.integer", "value is not a valid integer"),
    "float_parsing": ("type_error.float", "value is not a valid float"),
    "float_type": ("type_error.float", "value is not a valid float"),
    "bool_parsing": ("type_error.bool", "value could not be parsed to a boolean"),
    "bool_type": ("type_error.bool", "value could not be parsed to a boolean"),
    "finite_number": ("value_error.number.not_finite_number", "ensure this value is a finite number"),
    "greater_than": ("value_error.number.not_gt", "ensure this value is greater than {gt}"),
    "greater_than_equal": ("value_error.number.not_ge", "ensure this value is greater than or equal to {ge}"),
    "less_than": ("value_error.number.not_lt", "ensure this value is less than {lt}"),
    "less_than_equal": ("value_error.number.not_le", "ensure this value is less than or equal to {le}"),
    "multiple_of": ("value_error.number.not_multiple", "ensure this value is a multiple of {multiple_of}"),
    "string_too_short": ("value_error.any_str.min_length", "ensure this value has at least {min_length} characters"),
    "string_too_long": ("value_error.any_str.max_length", "ensure this value has at most {max_length} characters"),
    "too_short": ("value_error.list.min_items", "ensure this value has at least {min_length} items"),
    "too_long": ("value_error.list.max_items", "ensure this value has at most {max_length} items"),
    "literal_error": ("value_error.const", "unexpected value; permitted: {permitted}"),
    "enum": ("type_error.enum", "value is not a valid enumeration member; permitted: {permitted}"),
}
_LIMITS = ("gt", "ge", "lt", "le", "min_length", "max_length")
_NONE = ("type_error.none.not_allowed", "none is not an allowed value")
#: Keys of v1's ``ctx`` that the errors of this package may set themselves.
_V1_CONTEXT = frozenset({"limit_value", "given", "permitted", "enum_values", "multiple_of"})
_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|-?\d+(?:\.\d+)?|True|False|None")
_LONGEST_GIVEN = 1000
#: Statuses whose replies have no body.
_BODILESS = (204, 205, 304)


def v1_error(error: Mapping[str, JsonValue], prefix: Sequence[str | int] = ()) -> dict[str, JsonValue]:
    """One entry of a 422's ``detail`` in the form of pydantic v1: loc, msg, type and, for some types, ctx."""
    kind, context = str(error["type"]), dict(error.get("ctx") or {})
    loc = [*prefix, *error["loc"]]
    if kind == "json_invalid":
        return _not_json(error, loc, str(context.get("error", "")))
    if kind.endswith("_type") and error.get("input", ...) is None:
        return {"loc": loc, "msg": _NONE[1], "type": _NONE[0]}
    v1_kind, words = _V1.get(kind, (kind, ""))
    shown = _v1_context(kind, context, error.get("input"))
    choices: Sequence[JsonValue] = shown.get("permitted") or shown.get("enum_values") or ()
    permitted = ", ".join(map(repr, choices))
    text = words.format_map({**context, "permitted": permitted}) if words else str(error["msg"])
    entry: dict[str, JsonValue] = {"loc": loc, "msg": text, "type": v1_kind}
    return {**entry, "ctx": shown} if shown else entry


def _v1_context(kind: str, context: Mapping[str, JsonValue], given: JsonValue) -> dict[str, JsonValue]:
    """``ctx`` in the form of v1: the limit, or the given value and the permitted ones."""
    permitted = [ast.literal_eval(text) for text in _LITERAL.findall(str(context.get("expected", "")))]
    if kind == "literal_error":
        return {"given": _scalar(given), "permitted": permitted}
    if kind == "enum":
        return {"enum_values": permitted}
    limits = [context[limit] for limit in _LIMITS if limit in context]
    if limits:
        return {"limit_value": limits[0]}
    return {key: value for key, value in context.items() if key in _V1_CONTEXT}


def _scalar(value: JsonValue) -> JsonValue:
    if value is None or isinstance(value, bool | int | float):
        return value
    return (value if isinstance(value, str) else repr(value))[:_LONGEST_GIVEN]


def _not_json(error: Mapping[str, JsonValue], loc: list[str | int], words: str) -> dict[str, JsonValue]:
    position = loc[-1] if loc and isinstance(loc[-1], int) else 0
    document = error.get("input")
    text = document if isinstance(document, str) else ""
    line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    return {
        "loc": loc,
        "msg": f"{words}: line {line} column {column} (char {position})",
        "type": "value_error.jsondecode",
        "ctx": {"msg": words, "doc": text[:1000], "pos": position, "lineno": line, "colno": column},
    }


def error_body(
    error: str, detail: JsonValue = "", *, errors: str = "", hint: str | None = None
) -> dict[str, JsonValue]:
    """AUTOMATIC1111's four keys, and ``hint`` if there is one."""
    body = {"error": error, "detail": detail, "body": "", "errors": errors}
    return body if hint is None else {**body, "hint": hint}


def render(error: LatentdError) -> Response:
    """The reply for an error of :mod:`latentd.errors`."""
    name = "HTTPException" if error.status < 500 else type(error).__name__
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, QueueFull) else None
    return SafeJSONResponse(error_body(name, error.detail, hint=error.hint), error.status, headers)


def render_unexpected(error: Exception, where: str, *, plugin: str | None = None) -> Response:
    """A 500 with only the error's class, and an id that the log shows with the traceback.

    :param plugin: the plugin that owns the route, which the reply names, too; None for the core's.
    """
    number = secrets.token_hex(4)
    culprit = f"plugin {plugin!r}" if plugin else "the server"
    log.error("%s failed unexpectedly, a fault of %s (error id %s)", where, culprit, number, exc_info=error)
    hint = f"this is a fault of {culprit}; the server's log has the details under error id {number}"
    return SafeJSONResponse(error_body(type(error).__name__, errors=f"error id {number}", hint=hint), 500)


async def _latentd_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, LatentdError)
    if error.status >= 500:
        log.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
    return render(error)


async def _out_of_memory(request: Request, error: Exception) -> Response:
    log.error("%s %s: out of memory", request.method, request.url.path, exc_info=error)
    return render(OutOfMemory())


async def _declared(request: Request, error: Exception) -> Response:
    assert isinstance(error, RoutingError)
    if error.status_code in _BODILESS:
        return Response(status_code=error.status_code, headers=error.headers)
    return SafeJSONResponse(error_body("HTTPException", error.detail), error.status_code, error.headers)


async def _unrouted(request: Request, error: Exception) -> Response:
    assert isinstance(error, RoutingError)
    detail = error.detail
    if error.status_code not in (404, 405):
        return await _declared(request, error)
    hint = path_hint(request.url.path) if error.status_code == 404 else None
    if hint is None:
        return SafeJSONResponse({"detail": detail}, error.status_code, error.headers)
    return SafeJSONResponse(error_body("HTTPException", f"{detail}: {hint}", hint=hint), 404)


async def _invalid_body(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    detail = [v1_error(_with_document(entry, error.body)) for entry in error.errors()]
    return SafeJSONResponse({"detail": detail}, 422)


def _with_document(entry: Mapping[str, JsonValue], body: JsonValue) -> Mapping[str, JsonValue]:
    return {**entry, "input": body} if entry["type"] == "json_invalid" else entry


async def _invalid_arguments(request: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidArguments)
    loc = ("body", *error.loc)
    detail = [v1_error(dict(entry), loc) for entry in error.error.errors()]
    return SafeJSONResponse({"detail": detail}, 422)


async def _invalid_value(request: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError)
    return SafeJSONResponse({"detail": [v1_error(dict(entry), ("body",)) for entry in error.errors()]}, 422)


def install(app: FastAPI) -> None:
    """Have ``app`` answer every error in this form."""
    app.add_exception_handler(LatentdError, _latentd_error)
    app.add_exception_handler(MemoryError, _out_of_memory)
    app.add_exception_handler(InvalidArguments, _invalid_arguments)
    app.add_exception_handler(HTTPException, _declared)
    app.add_exception_handler(RoutingError, _unrouted)
    app.add_exception_handler(RequestValidationError, _invalid_body)
    app.add_exception_handler(ValidationError, _invalid_value)
