"""Answers: pictures in base64 or behind URLs, at once or as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from fastapi.sse import format_sse_event

from latentd.api import (
    GeneratedImage,
    JobEvent,
    JobEvents,
    JsonValue,
    LatentdError,
    Result,
    Services,
    WorkJob,
    picture_bytes,
)
from latentd_openai.errors import body

if TYPE_CHECKING:
    from fastapi import Request
    from PIL.Image import Image

    from latentd_openai.drawing import Order
    from latentd_openai.links import Links

#: Seconds of silence after which a comment keeps the connection open.
_SILENCE = 15.0
#: Nothing is counted or billed; typed clients need the field.
_USAGE = {"total_tokens": 0, "input_tokens": 0, "output_tokens": 0} | {
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0}
}


def pictures_of(result: object) -> list[GeneratedImage]:
    """The pictures that were asked for, without grids and what scripts add."""
    return [image for image in getattr(result, "images", ()) if image.role == "image"]


async def whole_answer(
    services: Services, job: WorkJob[Result], result: Result, order: Order, request: Request, links: Links
) -> dict[str, JsonValue]:
    """The body of an answer that is no stream."""
    data: list[dict[str, JsonValue]] = []
    for index, picture in enumerate(pictures_of(result)):
        if order.as_url:
            entry: dict[str, JsonValue] = {"url": links.to(request, job.id, index, order)}
        else:
            entry = {"b64_json": await encoded(services, picture.image, order, dict(picture.info))}
        data.append(entry | {"seed": picture.seed})
    answer: dict[str, JsonValue] = {"created": int(job.created), "data": data, "background": "opaque"}
    answer |= {"output_format": order.format, "quality": order.quality, "size": order.size}
    return answer | _warnings(job)


async def encoded(services: Services, image: Image, order: Order, info: dict[str, str]) -> str:
    """Base64 of the file that the order asks for."""
    return await services.run_in_thread(
        lambda: base64.b64encode(file_of(image, order.format, order.compression, info)).decode()
    )


def file_of(image: Image, format: str, compression: int, info: dict[str, str]) -> bytes:
    """The file's bytes; ``compression`` is the quality of JPEG and WebP."""
    return picture_bytes(image, format=format, quality=compression, info=info)


def _warnings(job: WorkJob[object]) -> dict[str, JsonValue]:
    warnings = list(job.progress.warnings)
    return {"warnings": warnings} if warnings else {}


class Stream:
    """The events of one order: partial pictures from the job's previews, then the pictures.

    :param kind: ``image_generation`` or ``image_edit``, which the events' names begin with.
    :raises QueueFull: there are too many streams; the job is cancelled.
    """

    def __init__(self, services: Services, job: WorkJob[Result], order: Order, kind: str) -> None:
        self._services = services
        self._job = job
        self._order = order
        self._kind = kind
        self._open = ExitStack()
        # Before the answer begins, while an error can still be the answer.
        try:
            self._events: JobEvents = self._open.enter_context(services.queue.subscribe(job.id))
        except LatentdError:
            services.queue.cancel(job.id)
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Each event as it is sent."""
        waiting = asyncio.ensure_future(self._job.wait())
        try:
            async for event in self._until(waiting):
                yield event
            for picture in pictures_of(await waiting):
                b64 = await encoded(self._services, picture.image, self._order, dict(picture.info))
                said = {"usage": _USAGE, "seed": picture.seed, **_warnings(self._job)}
                yield self._event("completed", b64, said)
        except Exception as error:
            yield _error(error)
        finally:
            self._open.close()
            if not waiting.done() and self._services.settings.cancel_on_disconnect:
                self._services.queue.cancel(self._job.id)
            waiting.cancel()

    async def _until(self, waiting: asyncio.Future[Result]) -> AsyncIterator[bytes]:
        """Partial pictures until the job has ended."""
        shown, batch, index = 0, 0, 0
        hearing: asyncio.Future[JobEvent | None] | None = None
        try:
            while not waiting.done():
                self._job.watch()
                hearing = hearing or asyncio.ensure_future(self._events.get())
                await asyncio.wait((waiting, hearing), timeout=_SILENCE, return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    return
                if not hearing.done():
                    yield format_sse_event(comment="waiting")
                    continue
                hearing = None
                state = self._job.progress
                image, number = state.preview, state.preview_id
                if state.job_no != batch:
                    batch, index = state.job_no, 0
                if image is not None and number != shown and index < (self._order.partial_images or 0):
                    shown = number
                    yield self._event("partial_image", await self._preview(image), {"partial_image_index": index})
                    index += 1
        finally:
            if hearing is not None:
                hearing.cancel()

    async def _preview(self, image: Image) -> str:
        request = self._order.request
        size = (request.width, request.height)
        resized = await self._services.run_in_thread(lambda: image.convert("RGB").resize(size))
        return await encoded(self._services, resized, self._order, {})

    def _event(self, name: str, b64: str, said: dict[str, JsonValue]) -> bytes:
        kind = f"{self._kind}.{name}"
        document = {"type": kind, "b64_json": b64, "created_at": int(time.time()), "background": "opaque"}
        document |= {"output_format": self._order.format, "quality": self._order.quality, "size": self._order.size}
        return _sse(kind, document | said)


def _error(error: Exception) -> bytes:
    if isinstance(error, LatentdError):
        status, message = error.status, f"{error.detail} ({error.hint})" if error.hint else error.detail
    else:
        status, message = 500, type(error).__name__
    return _sse("error", {"type": "error", **body(status, message)})


def _sse(name: str, document: dict[str, JsonValue]) -> bytes:
    return format_sse_event(event=name, data_str=json.dumps(document))
