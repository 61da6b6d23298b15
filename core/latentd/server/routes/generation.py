"""txt2img and img2img: the synchronous endpoints, and handing a generation in as a job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from fastapi import Request, Response

from latentd.executors import ExecutorJob
from latentd.server.accept_header import preferred_picture
from latentd.server.auth import require
from latentd.server.body_limits import LARGE_BODY
from latentd.server.convert import echo
from latentd.server.json_reply import SafeJSONResponse
from latentd.server.keys import Scope
from latentd.server.middleware import JOB_HEADER, name_job
from latentd.server.openapi import binary
from latentd.server.routes.jobs import accepted
from latentd.server.routing import APIRouter
from latentd.server.schemas.generation import (
    GenerationBody,
    ImageToImageResponse,
    Img2ImgJob,
    Img2ImgRequest,
    TextToImageResponse,
    Txt2ImgJob,
    Txt2ImgRequest,
)
from latentd.server.schemas.jobs import JobAccepted
from latentd.server.services import own
from latentd.types import GeneratedImage, JsonValue, Result

if TYPE_CHECKING:
    from latentd.job_services import WorkJob
    from latentd.server.services import AppServices
    from latentd.services import Services

T = TypeVar("T")
_BYTES = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}


def router(services: AppServices) -> APIRouter:
    """Routes ``/sdapi/v1/txt2img`` and ``/img2img``, and ``POST /latentd/v1/jobs``."""
    routes = APIRouter()
    replies: dict[int | str, dict[str, JsonValue]] = {
        200: {
            "content": binary(*_BYTES),
            "description": "JSON, or the first picture's bytes where Accept prefers a picture format to JSON.",
            "headers": {JOB_HEADER: {"schema": {"type": "string"}, "description": "Id of the job."}},
        }
    }

    @routes.post(
        "/sdapi/v1/txt2img",
        name="text2imgapi",
        tags=["generation"],
        response_model=TextToImageResponse,
        openapi_extra={LARGE_BODY: True},
        responses=replies,
    )
    async def txt2img(body: Txt2ImgRequest, request: Request) -> Response:
        """Make pictures from a text."""
        return await answer_generation(services, body, request)

    @routes.post(
        "/sdapi/v1/img2img",
        name="img2imgapi",
        tags=["generation"],
        response_model=ImageToImageResponse,
        openapi_extra={LARGE_BODY: True},
        responses=replies,
    )
    async def img2img(body: Img2ImgRequest, request: Request) -> Response:
        """Make pictures from pictures and a text."""
        return await answer_generation(services, body, request)

    @routes.post(
        "/latentd/v1/jobs",
        operation_id="submit_job",
        openapi_extra={LARGE_BODY: True},
        tags=["jobs"],
        status_code=202,
        response_model=None,
        responses={202: {"model": JobAccepted, "description": "The job is queued."}},
    )
    async def submit(body: dict[str, JsonValue], request: Request) -> Response:
        """Hand a generation in; the fields are those of txt2img or img2img, and ``mode`` says which."""
        generation = await asyncio.to_thread(_job_body, body)
        return accepted(await queue_generation(services, generation, request), request)

    return routes


def _job_body(body: dict[str, JsonValue]) -> GenerationBody:
    wanted = body.get("mode") or ("img2img" if body.get("init_images") else "txt2img")
    model: type[GenerationBody] = Img2ImgJob if wanted == "img2img" else Txt2ImgJob
    return model.model_validate({**body, "mode": wanted})


async def queue_generation(
    services: Services, body: GenerationBody, request: Request, *, warnings: Sequence[str] = ()
) -> ExecutorJob[Result]:
    """The queued job of a body of txt2img or img2img, whose answer need not wait for it.

    :param warnings: what the request asks for and does not get.
    :raises LatentdError: the errors of planning; NotAllowed if the key does not allow it; QueueFull.
    """
    _check_persistence(body, request)
    job, _ = await own(services).submit_body(body, warnings, awaited=False)
    name_job(request, job.id)
    return job


async def answer_generation(
    services: Services,
    body: GenerationBody,
    request: Request,
    *,
    echoed: Mapping[str, JsonValue] | None = None,
    warnings: Sequence[str] = (),
) -> Response:
    """The reply to txt2img or img2img: queue ``body``, await its job, encode the pictures.

    :param echoed: entries that replace or extend those of ``parameters``, for routes with further fields.
    :param warnings: what the request asks for and does not get.
    :raises LatentdError: the errors of planning and of the job itself; NotAllowed if the key does not allow it.
    """
    _check_persistence(body, request)
    server = own(services)
    job, body = await server.submit_body(body, warnings)
    name_job(request, job.id)
    result = await await_job(services, job, request)
    media = preferred_picture(",".join(request.headers.getlist("accept")), tuple(_BYTES))
    if media and result.images:
        first = result.images[0]
        data = await server.images.encode_bytes(first.image, dict(first.info), format=_BYTES[media])
        return Response(data, media_type=media)
    images = await encoded(server, result.images) if body.send_images is not False else []
    parameters = {**echo(body), **(echoed or {})}
    reply = {"images": images, "parameters": parameters, "info": json.dumps(result.info, default=_unserialisable)}
    return await server.images.run(lambda: SafeJSONResponse(reply))


def _check_persistence(body: GenerationBody, request: Request) -> None:
    """Check that the caller may set options, if the request's overrides are to stay.

    :raises NotAllowed: the key does not allow that.
    """
    if body.override_settings_restore_afterwards is False and (body.override_settings or body.infotext):
        require(request, Scope.ADMIN, "override_settings_restore_afterwards: false")


async def await_job(services: Services, job: WorkJob[T], request: Request) -> T:
    """The job's result. With ``--cancel-on-disconnect``, a client that disconnects before cancels the job.

    :raises JobCancelled: the client has disconnected, or somebody else cancelled the job.
    :raises Exception: what the work raised.
    """
    if not services.settings.cancel_on_disconnect:
        return await job.wait()
    waiting = asyncio.ensure_future(job.wait())
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            services.queue.cancel(job.id)
        return await waiting
    finally:
        leaving.cancel()


async def _left(request: Request) -> None:
    """Wait until the client closes the connection; the body must have been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def encoded(services: AppServices, images: tuple[GeneratedImage, ...]) -> list[str]:
    """Base64 texts of the pictures of a result, in order."""
    return list(await asyncio.gather(*(services.encode_image(image.image, dict(image.info)) for image in images)))


def _unserialisable(value: object) -> None:
    # As AUTOMATIC1111 1.9: what a script put there and JSON lacks is null.
    return None
