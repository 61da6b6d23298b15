"""Routers whose routes read bodies off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import fastapi
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from starlette.requests import Request
from starlette.responses import Response

from latentd.errors import InvalidRequest
from latentd.server.body_limits import is_json
from latentd.server.json_body import read_json
from latentd.types import JsonValue

READ_AT_ONCE = 4 << 10
"""Most bytes of a body that is read and checked on the event loop."""
MOST_FAULTS = 1000
"""Most errors of one body that a reply lists."""

#: Few threads, and separate ones: reading long bodies must delay neither planning nor other threads for long.
_THREADS = ThreadPoolExecutor(2, thread_name_prefix="bodies")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]  # as FastAPI has it


class OffLoopRoute(APIRoute):
    """A route whose bodies are read and checked on a thread if they are longer than :data:`READ_AT_ONCE`.

    In all else it is FastAPI's: the handler gets the same arguments, and the replies are the same.
    """

    def get_route_handler(self) -> Handler:
        """FastAPI's handler, called with a request that has already been read."""
        handle = super().get_route_handler()
        field = self.body_field
        if field is None:
            return handle
        # FastAPI itself separates several parameters in one body.
        known = None if self._embed_body_fields else _adapter(field.field_info)

        async def read_first(request: Request) -> Response:
            body = bytearray()
            async for chunk in request.stream():
                body += chunk
            read = _ReadRequest(request, body)
            if len(body) > READ_AT_ONCE and is_json(request.headers):
                await asyncio.get_running_loop().run_in_executor(_THREADS, read.prepare, known)
            return await handle(read)

        return read_first


class APIRouter(fastapi.APIRouter):
    """FastAPI's router with routes of :class:`OffLoopRoute`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # FastAPI's own
        super().__init__(*arguments, **{"route_class": OffLoopRoute, **named})


class _ReadRequest(Request):
    """A request whose body has been read."""

    def __init__(self, request: Request, body: bytearray) -> None:
        super().__init__(request.scope, request.receive)
        self._read = body
        self._prepared: list[object] = []
        self._fault: ValueError | RecursionError | None = None

    async def body(self) -> bytes:
        """The body's bytes, not copied: the copy would be made on the event loop."""
        return self._read  # type: ignore[return-value]

    async def json(self) -> JsonValue:
        """The body's value; raises the errors of ``json.loads``."""
        if self._fault is not None:
            raise self._fault
        return self._prepared[0] if self._prepared else read_json(self._read)

    def prepare(self, known: TypeAdapter[Any] | None) -> None:  # of whatever the route takes
        """Read the body, and validate it if its type is ``known``; the handler then uses the validated value.

        :raises RequestValidationError: the body is not of that type.
        :raises InvalidRequest: it has more errors than :data:`MOST_FAULTS`.
        """
        try:
            value = read_json(self._read)
        except (ValueError, RecursionError) as error:
            self._fault = error
            return
        # FastAPI treats null as a missing body.
        self._prepared = [value if known is None or value is None else _checked(value, known)]


def _adapter(info: FieldInfo) -> TypeAdapter[Any]:
    """The validator of a body with this parameter."""
    kind: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    return TypeAdapter(kind)


def _checked(value: object, known: TypeAdapter[Any]) -> object:
    try:
        return known.validate_python(value, from_attributes=True)
    except ValidationError as error:
        if (count := error.error_count()) > MOST_FAULTS:
            raise InvalidRequest(f"the request is wrong in {count} places", hint="see /docs for its fields") from None
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
        raise RequestValidationError(faults, body=value) from None
