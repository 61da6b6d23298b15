"""ASGI middleware around every request: timing, request log, sub-path, long replies, uncaught errors, CORS."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import string
import time
from collections.abc import Callable
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from latentd.server.errors import render_unexpected
from latentd.server.json_reply import SafeJSONResponse
from latentd.server.public import route_path
from latentd.types import JsonValue

log = logging.getLogger("latentd.api")


PIECE = 1 << 18
"""Most bytes of a reply that are sent at once."""
JOB_HEADER = "X-Latentd-Job"
"""Header with the id of a generation's job, also in errors; characters beyond visible ASCII are percent-encoded."""
#: Every visible character of ASCII but the percent sign.
_PLAIN = string.punctuation.replace("%", "")
_ASKS_PRIVATE = "access-control-request-private-network"
_TIME_HEADER = "X-Process-Time"
#: What the HTTP layer refuses in a header's value, and drops the connection for.
_NO_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]|^[ \t]|[ \t]$")
_LOGGED = ("/sdapi/", "/latentd/", "/controlnet/")


def name_job(request: Request, job_id: str) -> None:
    """Name the job in the reply to ``request``, also if that is an error, and in its log line."""
    request.state.job_id = job_id


class TimingMiddleware:
    """Adds ``X-Process-Time`` (seconds, four decimals), and ``X-Latentd-Job`` after :func:`name_job`.

    :param log_requests: write a log line for each API request, without its query.
    """

    def __init__(self, app: ASGIApp, *, log_requests: bool = False) -> None:
        self._app = app
        self._log_requests = log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, add the headers to its answer and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        state = scope.setdefault("state", {})

        async def timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = round(time.perf_counter() - began, 4)
                headers = MutableHeaders(scope=message)
                headers[_TIME_HEADER] = str(seconds)
                if job_id := state.get("job_id"):
                    headers[JOB_HEADER] = quote(job_id, safe=_PLAIN)
                if self._log_requests and route_path(scope).startswith(_LOGGED):
                    _log_request(scope, message["status"], seconds, job_id)
            await send(message)

        await self._app(scope, receive, timed)


def _log_request(scope: Scope, status: int, seconds: float, job_id: str | None) -> None:
    client = scope.get("client") or ("unknown", 0)
    log.info(
        "API %s %s/%s %s %s %s %ss%s",
        status,
        scope.get("scheme", "http"),
        scope.get("http_version", "1.1"),
        scope["method"],
        scope["path"].encode("ascii", "backslashreplace").decode(),
        client[0],
        seconds,
        f" job {job_id}" if job_id else "",
        extra={"job": job_id, "status": status, "seconds": seconds},
    )


class RequestObserver:
    """Tells of each request, and what became of it after its reply.

    :param begun: called with the request.
    :param done: called with method, the route's path ("" for none), status and seconds.
    """

    def __init__(
        self, app: ASGIApp, *, begun: Callable[[Request], None], done: Callable[[str, str, int, float], None]
    ) -> None:
        self._app = app
        self._begun = begun
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell of the request, pass it on, and tell of its end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._begun(Request(scope))
        try:
            await self._app(scope, receive, noted)
        finally:
            if status:
                route = getattr(scope.get("route"), "path", "")
                self._done(scope["method"], route, status, time.perf_counter() - began)


class ErrorFormatMiddleware:
    """Has plugins put errors below their own paths into the form that their clients know.

    :param translate: a path, a status and the JSON of an error → another status and JSON, or None to keep them.
    """

    def __init__(
        self, app: ASGIApp, *, translate: Callable[[str, int, JsonValue], tuple[int, JsonValue] | None]
    ) -> None:
        self._app = app
        self._translate = translate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; hold a JSON error back until it is whole, and send its translation."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def translated(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and _is_json_error(message):
                start = message
            elif start is None or message["type"] != "http.response.body":
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    head, start = start, None
                    await self._send(route_path(scope), head, body, send)

        await self._app(scope, receive, translated)

    async def _send(self, path: str, start: Message, body: bytes, send: Send) -> None:
        try:
            found = self._translate(path, start["status"], json.loads(body))
        except Exception:
            log.exception("the error of %s could not be put into another form", path)
            found = None
        if found is not None:
            status, document = found
            reply = SafeJSONResponse(document, status)
            body = bytes(reply.body)
            kept = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
            start = {**start, "status": status, "headers": [*kept, (b"content-length", str(len(body)).encode())]}
        await send(start)
        await send({"type": "http.response.body", "body": body})


def _is_json_error(start: Message) -> bool:
    return start["status"] >= 400 and Headers(scope=start).get("content-type", "").startswith("application/json")


class SubpathMiddleware:
    """Tells the application the path below which clients see it, whether or not a proxy removes it from requests."""

    def __init__(self, app: ASGIApp, *, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with the prefix as its ``root_path``."""
        if scope["type"] == "http":
            scope = {**scope, "root_path": self._prefix}
        await self._app(scope, receive, send)


class PiecesMiddleware:
    """Sends long replies in pieces, so that the event loop can serve other requests in between."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; send long bodies of its answer in pieces."""

        async def send_pieces(message: Message) -> None:
            body = memoryview(message.get("body", b""))
            if message["type"] != "http.response.body" or len(body) <= PIECE:
                await send(message)
                return
            for start in range(0, len(body), PIECE):
                last = start + PIECE >= len(body) and not message.get("more_body", False)
                piece = bytes(body[start : start + PIECE])
                await send({"type": "http.response.body", "body": piece, "more_body": not last})
                await asyncio.sleep(0)

        await self._app(scope, receive, send_pieces if scope["type"] == "http" else send)


class LastNetMiddleware:
    """Answers an uncaught error with a 500 that reveals no details, and logs the traceback.

    A header that cannot be sent counts as an error, too: the HTTP layer would close the connection without an answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; answer 500 when it raises."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                _check_headers(message)
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            reply = render_unexpected(
                error, f"{scope['method']} {scope['path']}", plugin=scope.get("state", {}).get("plugin")
            )
            if not started:
                await reply(scope, receive, send)


def _check_headers(message: Message) -> None:
    """Check the headers of a reply.

    :raises ValueError: one has a value that cannot be sent.
    """
    for name, value in message.get("headers", ()):
        if _NO_VALUE.search(value):
            raise ValueError(f"header {name.decode('latin-1')} has a value that cannot be sent: {value!r}")


class PrivateNetworkCors(CORSMiddleware):
    """Starlette's middleware, which also allows pages of the internet to ask a server in a private network.

    Browsers ask for that in the preflight request; source: the draft "Private Network Access" of the WICG.
    """

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return Starlette's answer, with leave to ask a private network where the origin is allowed."""
        others = Headers(raw=[pair for pair in request_headers.raw if pair[0] != _ASKS_PRIVATE.encode()])
        response = super().preflight_response(others)
        if response.status_code == 200 and _ASKS_PRIVATE in request_headers:
            response.headers["Access-Control-Allow-Private-Network"] = "true"
        return response


def cors_arguments(origins: str | None, pattern: str | None) -> dict[str, JsonValue]:
    """Arguments for Starlette's ``CORSMiddleware`` from the two flags; neither given: no origin is allowed.

    :raises ValueError: ``--cors-allow-origins-regex`` is no regular expression.
    """
    if pattern:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"--cors-allow-origins-regex: {error}") from error
    allowed = [origin for origin in (origins or "").split(",") if origin]
    return {
        "allow_origins": allowed,
        "allow_origin_regex": pattern,
        "allow_methods": ["*"],
        "allow_headers": ["*"],
        # With every origin allowed, pages may not use the credentials that the browser stores for this server.
        "allow_credentials": "*" not in allowed,
        "expose_headers": [JOB_HEADER, "Location", "Retry-After", _TIME_HEADER],
    }
