"""Bounds of request bodies, checked while they arrive: their size, by route, and the number of values in their JSON."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from latentd.server.errors import error_body
from latentd.server.json_reply import SafeJSONResponse

LARGE_BODY = "x-large-body"
"""Mark in the ``openapi_extra`` of the routes that take pictures; the core's other routes take :data:`SMALL_BODY`."""
SMALL_BODY = 4 << 20
"""Most bytes of a request body that holds no pictures."""
MOST_VALUES = 100_000
"""Most values in one JSON document: a value takes far more memory than its text."""
MOST_BETWEEN = 2 << 20
"""Most bytes of one JSON document outside its strings: numbers, brackets, white space."""


class BodyTooLarge(BaseException):
    """A body is over a bound. Not an ``Exception``: FastAPI answers 400 to any that reading a body raises."""

    def __init__(self, detail: str, hint: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint


class JsonShape:
    """Counts the values of a JSON document as its bytes arrive, without parsing it. Strings may have any length.

    A document with a zero byte among its first four is UTF-16 or UTF-32, in which a single byte does not mark the end
    of a string: all of it counts as outside of strings.
    """

    def __init__(self) -> None:
        self.values = self.between = self.quotes = 0
        self._in_text, self._wide = False, False
        self._rest, self._begun = b"", False

    def feed(self, chunk: bytes) -> None:
        """Count the next bytes.

        :raises BodyTooLarge: more than :data:`MOST_VALUES` values, more strings than that many values and their keys
            can have, or more than :data:`MOST_BETWEEN` bytes outside of strings.
        """
        if not self._begun and chunk:
            self._begun, self._wide = True, 0 in chunk[:4]
        outside = chunk if self._wide else self._outside(chunk)
        self.values += sum(map(outside.count, (b",", b"[", b"{")))
        self.between += len(outside)
        if max(self.values, self.quotes // 4) > MOST_VALUES:
            raise BodyTooLarge(f"request body has more than {MOST_VALUES} values", "send less in one request")
        if self.between > MOST_BETWEEN:
            raise BodyTooLarge(
                f"request body has more than {MOST_BETWEEN} bytes outside of texts", "send it without white space"
            )

    def _outside(self, chunk: bytes) -> bytes:
        """The bytes of ``chunk`` that are outside of strings."""
        data = self._rest + chunk
        slashes = len(data) - len(data.rstrip(b"\\"))
        self._rest = b"\\" if slashes % 2 else b""
        if self._rest:
            data = data[:-1]
        if b"\\" in data:
            data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
        pieces = data.split(b'"')
        self.quotes += len(pieces) - 1
        outside = b"".join(pieces[self._in_text :: 2])
        self._in_text ^= len(pieces) % 2 == 0
        return outside


class BodyBoundMiddleware:
    """Answers 413 to a request body over the bounds: by its ``Content-Length``, and by what arrives.

    :param max_bytes: bound of the routes that take pictures. :param takes_pictures: which requests go to one.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, takes_pictures: Callable[[Scope], bool]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._takes_pictures = takes_pictures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body counted; answer 413 when it exceeds a bound."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "")
        # Most requests have no body: the search for their route is spared.
        if scope["method"] in ("GET", "HEAD", "OPTIONS") or not (declared or "transfer-encoding" in headers):
            limit = SMALL_BODY
        else:
            limit = self._max_bytes if self._takes_pictures(scope) else SMALL_BODY
        limit = min(limit, self._max_bytes)
        body = _Body(receive, limit, JsonShape() if is_json(headers) else None)
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            if declared.isdecimal() and int(declared[:20]) > limit:
                raise _too_large(limit)
            await self._app(scope, body.receive, watched)
        except BodyTooLarge as error:
            if not started:
                if headers.get("expect", "").lower() != "100-continue":
                    await body.drain(self._max_bytes)
                document = error_body("HTTPException", error.detail, hint=error.hint)
                await SafeJSONResponse(document, 413, {"Connection": "close"})(scope, receive, send)


class _Body:
    """A request's body as it arrives, counted.

    :param shape: counts the values of its JSON; None when the body is no JSON.
    """

    def __init__(self, receive: Receive, limit: int, shape: JsonShape | None) -> None:
        self._receive = receive
        self._limit = limit
        self._shape = shape
        self._seen = 0
        self._ended = False

    async def receive(self) -> Message:
        """The next message.

        :raises BodyTooLarge: the body is over a bound.
        """
        message = await self._next()
        if self._seen > self._limit:
            raise _too_large(self._limit)
        if self._shape is not None:
            self._shape.feed(message.get("body", b""))
        return message

    async def drain(self, most: int) -> None:
        """Discard what the client is still sending, up to ``most`` bytes in all.

        Clients read the answer after they have sent everything; if the connection is closed before, they report a
        broken connection.
        """
        while not self._ended and self._seen <= most:
            await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message


def _too_large(limit: int) -> BodyTooLarge:
    hint = "see --max-request-mb" if limit != SMALL_BODY else "this request takes no pictures"
    return BodyTooLarge(f"request body is larger than {limit} bytes", hint)


def is_json(headers: Headers) -> bool:
    """Whether FastAPI reads the body as JSON: a JSON type, or none at all."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return not kind or kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
