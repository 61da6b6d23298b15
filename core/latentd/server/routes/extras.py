"""The extras endpoints: upscaling and face restoration of given pictures."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from starlette.responses import Response

from latentd.server.body_limits import LARGE_BODY
from latentd.server.json_reply import json_reply
from latentd.server.routing import APIRouter
from latentd.server.schemas.images import (
    ExtrasBatchImagesRequest,
    ExtrasBatchImagesResponse,
    ExtrasFields,
    ExtrasSingleImageRequest,
    ExtrasSingleImageResponse,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.server.services import AppServices
    from latentd.types import JobControl


def router(services: AppServices) -> APIRouter:
    """Routes ``/sdapi/v1/extra-single-image`` and ``/extra-batch-images``."""
    routes = APIRouter(prefix="/sdapi/v1", tags=["extras"])

    @routes.post(
        "/extra-single-image",
        name="extras_single_image_api",
        response_model=ExtrasSingleImageResponse,
        openapi_extra={LARGE_BODY: True},
    )
    async def single(body: ExtrasSingleImageRequest) -> Response:
        """Postprocess one picture."""
        texts, line = await _process(services, body, [body.image])
        return await json_reply({"html_info": _html(line), "image": texts[0]})

    @routes.post(
        "/extra-batch-images",
        name="extras_batch_images_api",
        response_model=ExtrasBatchImagesResponse,
        openapi_extra={LARGE_BODY: True},
    )
    async def batch(body: ExtrasBatchImagesRequest) -> Response:
        """Postprocess several pictures alike."""
        texts, line = await _process(services, body, [file.data for file in body.files])
        return await json_reply({"html_info": _html(line), "images": texts})

    return routes


async def _process(services: AppServices, body: ExtrasFields, given: list[str]) -> tuple[list[str], str]:
    """Base64 texts of the results and the last one's infotext line."""
    from latentd.pipeline.extras import run as extras

    fields = body.model_dump(exclude={"image", "files"})
    fields["postprocessors"] = body.postprocessors or {}
    names = set(extras.ExtrasRequest.__dataclass_fields__)
    request = extras.ExtrasRequest(**{key: value for key, value in fields.items() if key in names}, raw=fields)
    extras.check_extras(request, services.registry)
    pictures = await services.images.decode_later(given)
    options = services.options.snapshot()
    max_pixels = services.settings.max_pixels

    keep = bool(options["enable_pnginfo"])

    def work(control: JobControl) -> tuple[list[str], str]:
        for message in body.unknown_warnings:
            control.warn(message)
        control.progress.job_count = len(pictures)
        context = services.worker_context(control, options)
        line = ""

        def one(image: Image) -> tuple[Image, dict[str, str]]:
            nonlocal line
            done = extras.process(image, request, services.registry, context, max_pixels=max_pixels)
            control.progress.next_job()
            line = done.text
            return done.image, _info(image, line, keep)

        return services.images.through(pictures, one), line

    done: tuple[list[str], str] = await services.run_on_worker(work, kind="extras")
    return done


def _info(image: Image, line: str, keep: bool) -> dict[str, str]:
    """The text entries of the result: those the picture had, and what was done to it."""
    if not keep:
        return {}
    return {key: value for key, value in image.info.items() if isinstance(key, str) and isinstance(value, str)} | {
        "postprocessing": line
    }


def _html(line: str) -> str:
    return "<p>" + "<br>\n".join(html.escape(part) for part in line.split("\n")) + "</p>"
