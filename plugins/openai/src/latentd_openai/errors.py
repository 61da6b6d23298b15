"""Errors in OpenAI's form (source: its API reference, "Errors").

A body is ``{"error": {"message", "type", "param", "code"}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from latentd.api import JsonValue

if TYPE_CHECKING:
    from fastapi import HTTPException

#: Statuses of latentd that OpenAI's API does not have → the one that it answers in such a case.
_STATUS = {410: 404, 422: 400, 507: 500}
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
_TYPES = {403: "permission_error", 429: "rate_limit_error"}
#: How a field's error begins in pydantic's words → OpenAI's code for it.
_FIELD_CODES = {
    "value_error.missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "type_error": "invalid_type",
}


def refusal(message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> HTTPException:
    """The exception for a request that cannot be carried out; it is raised in routes alone."""
    from fastapi import HTTPException

    return HTTPException(status, {"message": message, "param": param, "code": code})


def translated(path: str, status: int, document: JsonValue) -> tuple[int, JsonValue]:
    """OpenAI's status and body for an error in AUTOMATIC1111's form, or in FastAPI's."""
    given = document if isinstance(document, Mapping) else {}
    detail, hint = given.get("detail"), given.get("hint")
    status = _STATUS.get(status, status)
    if isinstance(detail, Mapping):
        return status, body(status, str(detail["message"]), detail.get("param"), detail.get("code"))
    if isinstance(detail, list) and detail:
        return status, body(status, *_of_field(detail[0]))
    message = str(detail or given.get("errors") or given.get("error") or "the request failed")
    if status == 404 and message == "Not Found":
        return status, body(status, f"Invalid URL ({path})", None, "unknown_url")
    return status, body(status, f"{message} ({hint})" if hint else message)


def body(status: int, message: str, param: JsonValue = None, code: JsonValue = None) -> dict[str, JsonValue]:
    """The document of an error."""
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code or _CODES.get(status)}}


def _of_field(error: Mapping[str, JsonValue]) -> tuple[str, str, str]:
    """(message, param, code) for one entry of a 422."""
    places = [str(place) for place in error.get("loc", ()) if place != "body"]
    param = ".".join(places) or "body"
    kind, words = str(error.get("type")), str(error.get("msg"))
    code = next((code for start, code in _FIELD_CODES.items() if kind.startswith(start)), "invalid_value")
    if code == "missing_required_parameter":
        return f"Missing required parameter: '{param}'.", param, code
    if code == "unknown_parameter":
        return f"Unknown parameter: '{param}'.", param, code
    return f"Invalid value for '{param}': {words}.", param, code
