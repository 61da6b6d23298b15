"""JSON replies that can hold any value that a client may have sent."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from latentd.types import JsonValue

PIECE = 1 << 16
"""Characters of a string that are written at once: :mod:`json` lets no other thread run meanwhile."""
_BATCH = 64
#: Levels of lists and objects whose entries are looked at one by one.
_DEEPEST = 12


class SafeJSONResponse(JSONResponse):
    """JSON in which NaN and infinities are null, and unpaired surrogates are written as escapes."""

    def render(self, content: JsonValue) -> bytes:
        """Return ``content`` as JSON in UTF-8."""
        try:
            return b"".join(_pieces(content, 0))
        except ValueError:
            return b"".join(_pieces(_finite(content), 0))


class LateJSONResponse(SafeJSONResponse):
    """The reply made of the value that a route returns: a long one is written in a thread, off the event loop."""

    _late: JsonValue = None

    def render(self, content: JsonValue) -> bytes:
        """Return short ``content`` as JSON; keep a long one for :meth:`__call__`."""
        if not _is_long(content, 0):
            return super().render(content)
        self._late = content
        return b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the reply, writing long content in a thread first."""
        if self._late is not None and self.status_code != 204:
            self.body = await asyncio.to_thread(super().render, self._late)
            self.headers["content-length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


async def json_reply(content: JsonValue) -> SafeJSONResponse:
    """A reply whose JSON may be long, written off the event loop."""
    return await asyncio.to_thread(SafeJSONResponse, content)


def _pieces(value: JsonValue, depth: int) -> Iterator[bytes]:
    """The JSON of ``value``, in pieces each of which takes little time to write."""
    if not _is_long(value, depth):
        yield _dumps(value)
    elif isinstance(value, str):
        yield b'"'
        for start in range(0, len(value), PIECE):
            yield _dumps(value[start : start + PIECE])[1:-1]
        yield b'"'
    elif isinstance(value, dict):
        yield from _joined(
            b"{}",
            (itertools.chain([_key(key), b":"], _pieces(entry, depth + 1)) for key, entry in value.items()),
        )
    else:
        batches = (value[start : start + _BATCH] for start in range(0, len(value), _BATCH))
        yield from _joined(b"[]", (_entries(batch, depth + 1) for batch in batches))


def _entries(batch: Sequence[JsonValue], depth: int) -> Iterator[bytes]:
    """The JSON of the entries of ``batch``, commas between them."""
    if any(_is_long(entry, depth) for entry in batch):
        for number, entry in enumerate(batch):
            yield b"," if number else b""
            yield from _pieces(entry, depth)
    else:
        yield _dumps(batch)[1:-1]


def _joined(brackets: bytes, parts: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    yield brackets[:1]
    for number, part in enumerate(parts):
        yield b"," if number else b""
        yield from part
    yield brackets[1:]


def _key(key: JsonValue) -> bytes:
    """The JSON of an object's key; numbers and truth values become texts."""
    return _dumps({key: 0})[1:-3]


def _is_long(value: JsonValue, depth: int) -> bool:
    """Whether ``value`` takes so long to write that it is written in pieces."""
    if isinstance(value, str):
        return len(value) > PIECE
    if depth == _DEEPEST or not isinstance(value, dict | list | tuple):
        return False
    entries = value.values() if isinstance(value, dict) else value
    return len(value) > _BATCH or any(_is_long(entry, depth + 1) for entry in entries)


def _dumps(content: JsonValue) -> bytes:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
