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

READ_AT_ONCE = 4 << 10
"""Bytes of a body that the event loop may read and check itself."""
MOST_FAULTS = 1000
"""Faults of one body that are listed; the list of more takes longer to make than anybody takes to read it."""

#: Few, and none but these: what is slow to read must hold up neither planning nor each other's thread for long.
_THREADS = ThreadPoolExecutor(2, thread_name_prefix="bodies")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class OffLoopRoute(APIRoute):
    """A route whose bodies are read and checked on a thread where they are longer than :data:`READ_AT_ONCE`.

    Beside that it is FastAPI's: what the handler gets, and what it answers, is the same.
    """

    def get_route_handler(self) -> Handler:
        """FastAPI's handler, given what has been read already."""
        handle = super().get_route_handler()
        field = self.body_field
        if field is None:
            return handle
        # Several parameters in one body are taken apart by FastAPI.
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
    """FastAPI's router, its routes of :class:`OffLoopRoute`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **{"route_class": OffLoopRoute, **named})


class _ReadRequest(Request):
    """A request whose body has been read."""

    def __init__(self, request: Request, body: bytearray) -> None:
        super().__init__(request.scope, request.receive)
        self._read = body
        self._prepared: list[Any] = []
        self._fault: ValueError | RecursionError | None = None

    async def body(self) -> bytes:
        """Its bytes; a copy would be made on the event loop."""
        return self._read  # type: ignore[return-value]

    async def json(self) -> Any:
        """What they say; raises as ``json.loads``."""
        if self._fault is not None:
            raise self._fault
        return self._prepared[0] if self._prepared else read_json(self._read)

    def prepare(self, known: TypeAdapter[Any] | None) -> None:
        """Read the body, and check it where its type is ``known``; the handler finds what that gives and takes it.

        :raises RequestValidationError: it is not of that type.
        :raises InvalidRequest: it is wrong in more places than are listed.
        """
        try:
            value = read_json(self._read)
        except (ValueError, RecursionError) as error:
            self._fault = error
            return
        # Null is, to FastAPI, a body that is not there.
        self._prepared = [value if known is None or value is None else _checked(value, known)]


def _adapter(info: FieldInfo) -> TypeAdapter[Any]:
    """What checks a body of this parameter."""
    kind: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    return TypeAdapter(kind)


def _checked(value: object, known: TypeAdapter[Any]) -> Any:
    try:
        return known.validate_python(value, from_attributes=True)
    except ValidationError as error:
        if (count := error.error_count()) > MOST_FAULTS:
            raise InvalidRequest(f"the request is wrong in {count} places", hint="see /docs for its fields") from None
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
        raise RequestValidationError(faults, body=value) from None
