"""The jobs API: every generation with an id, a place in the queue, and its pictures as bytes."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from fastapi import Query, Request, Response

from latentd.engine.progress import job_document
from latentd.errors import InvalidRequest, NotFound
from latentd.executors import Executor
from latentd.job_services import WorkJob
from latentd.server.json_reply import SafeJSONResponse
from latentd.server.middleware import name_job
from latentd.server.openapi import binary, reply_of
from latentd.server.routing import APIRouter
from latentd.server.schemas import jobs as schemas
from latentd.types import GeneratedImage, JsonValue

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.executors import ExecutorJob
    from latentd.server.services import AppServices

MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "avif": "image/avif",
}
Format = Annotated[str | None, Query(description="png, jpeg, webp or avif; by default option samples_format")]


def router(services: AppServices) -> APIRouter:
    """Routes below ``/latentd/v1/jobs``; none waits for the worker."""
    routes = APIRouter(prefix="/latentd/v1/jobs", tags=["jobs"])
    _add_listing(routes, services)
    _add_pictures(routes, services)

    @routes.post("/{job_id}/cancel", operation_id="cancel_job", **reply_of(schemas.Job))
    async def cancel(job_id: str, request: Request) -> dict[str, JsonValue]:
        """Cancel a job: a waiting one at once, a running one at its next step; an ended one stays as it is."""
        return _document(services.engine.cancel(job_id), request)

    @routes.post("/{job_id}/interrupt", operation_id="interrupt_job", **reply_of(schemas.Job))
    async def interrupt(job_id: str, request: Request) -> dict[str, JsonValue]:
        """Stop a running job early: it completes with the pictures as far as they are; others go on."""
        job = services.engine.get(job_id)
        job.interrupt()
        return _document(job, request)

    return routes


def _add_listing(routes: APIRouter, services: AppServices) -> None:
    @routes.get("", operation_id="list_jobs", **reply_of(schemas.JobList))
    async def jobs(
        request: Request,
        state: Annotated[schemas.State | None, Query(description="only jobs in this state")] = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="the newest so many")] = 100,
    ) -> Response:
        """Jobs, oldest first."""
        engine: Executor = services.engine
        known = [(job, place) for job, place in engine.jobs() if state in (None, job.status)]
        newest = known[-limit:]
        return await asyncio.to_thread(
            lambda: SafeJSONResponse({"total": len(known), "jobs": [job_document(job, place) for job, place in newest]})
        )

    @routes.get("/{job_id}", operation_id="get_job", **reply_of(schemas.Job))
    async def job(job_id: str, request: Request) -> dict[str, JsonValue]:
        """One job: state, position, progress, and its pictures once it has completed."""
        return _document(services.engine.get(job_id), request)


def _add_pictures(routes: APIRouter, services: AppServices) -> None:
    @routes.get(
        "/{job_id}/images/{index}",
        operation_id="get_job_image",
        response_class=Response,
        responses={200: {"content": binary(*MEDIA_TYPES.values()), "description": "A picture file."}},
    )
    async def image(job_id: str, index: int, format: Format = None) -> Response:
        """The bytes of one picture, with its metadata."""
        job = services.engine.get(job_id)
        pictures = _pictures(job.outcome())
        if not 0 <= index < len(pictures):
            raise NotFound(f"job {job_id!r} has no image {index}", hint=f"it has {len(pictures)}, counted from 0")
        picture = pictures[index]
        return await _picture_reply(services, picture.image, dict(picture.info), format)

    @routes.get(
        "/{job_id}/preview",
        operation_id="get_job_preview",
        response_class=Response,
        responses={
            200: {"content": binary(*MEDIA_TYPES.values()), "description": "A picture file."},
            204: {"description": "There is none yet."},
        },
    )
    async def preview(job_id: str, format: Format = None) -> Response:
        """The bytes of the latest preview; 204 while there is none."""
        job = services.engine.get(job_id)
        job.watch()
        picture = job.progress.preview
        return Response(status_code=204) if picture is None else await _picture_reply(services, picture, {}, format)


async def _picture_reply(services: AppServices, picture: Image, info: dict[str, str], format: str | None) -> Response:
    from latentd.images.codecs import encode_image

    format = (format or str(services.options["samples_format"])).lower()
    if format not in MEDIA_TYPES:
        raise InvalidRequest("Invalid image format", hint="one of " + ", ".join(MEDIA_TYPES))
    quality = int(services.options["jpeg_quality"])
    data = await asyncio.to_thread(partial(encode_image, picture, format=format, quality=quality, info=info))
    return Response(data, media_type=MEDIA_TYPES[format], headers={"Cache-Control": "no-store"})


def _pictures(result: object) -> list[GeneratedImage]:
    """The pictures of a generation; other jobs have none."""
    return [picture for picture in getattr(result, "images", ()) if isinstance(picture, GeneratedImage)]


def job_path(job: WorkJob[object], request: Request) -> str:
    """The path of ``job`` in this API, as the client sees it (behind a prefix, too)."""
    return f"{request.scope.get('root_path', '')}/latentd/v1/jobs/{quote(job.id, safe='()')}"


def accepted(job: WorkJob[object], request: Request) -> Response:
    """The reply 202 to what was handed in as ``job``: where it is, and what happens to it."""
    name_job(request, job.id)
    path = job_path(job, request)
    reply = {"id": job.id, "state": job.status, "position": job.position, "url": path, "events": f"{path}/events"}
    return SafeJSONResponse(reply, 202, {"Location": path})


def _document(job: ExecutorJob[object], request: Request) -> dict[str, JsonValue]:
    path = job_path(job, request)
    document = job_document(job)
    document["preview"] = f"{path}/preview" if job.progress.preview is not None else None
    document["events"] = f"{path}/events"
    result = job.result
    document["result"] = result if isinstance(result, dict) else None
    document["images"] = [
        {
            "url": f"{path}/images/{index}",
            "width": picture.image.width,
            "height": picture.image.height,
            "seed": picture.seed,
            "role": picture.role,
            "infotext": picture.infotext,
        }
        for index, picture in enumerate(_pictures(result))
    ]
    return document
