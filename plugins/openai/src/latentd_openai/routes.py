"""``/v1/images/...`` and ``/v1/models``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from latentd.api import APIRouter, JsonValue, NotFound, Services, await_job, name_job
from latentd_openai import drawing
from latentd_openai.answers import Stream, file_of, pictures_of, whole_answer
from latentd_openai.drawing import Order
from latentd_openai.errors import refusal
from latentd_openai.forms import read
from latentd_openai.links import PATH, Links
from latentd_openai.models import chosen, entry_of
from latentd_openai.parameters import (
    CreateImageEditRequest,
    CreateImageRequest,
    CreateImageVariationRequest,
    Format,
    ImagesResponse,
    ListModelsResponse,
    ModelEntry,
    OpenAIErrorResponse,
)
from latentd_openai.pictures import opened

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": OpenAIErrorResponse, "description": "Any error"} for status in ("4XX", "5XX")
}
_STREAM = {"text/event-stream": {"schema": {"type": "string"}}}
_IMAGES: dict[str, Any] = {
    "response_model": None,
    "responses": _ERRORS | {200: {"model": ImagesResponse, "content": _STREAM}},
}
_FILES: dict[str, JsonValue] = {
    "image": {"type": "string", "format": "binary"},
    "mask": {"type": "string", "format": "binary"},
}


def _body_of(model: type[BaseModel]) -> dict[str, JsonValue]:
    """``openapi_extra`` of a route that reads forms and JSON itself."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    fields = {name: field for name, field in schema["properties"].items() if name not in ("image", "images", "mask")}
    files = {name: field for name, field in _FILES.items() if name in schema["properties"]}
    required = [*schema.get("required", ()), "image"]
    form = {"type": "object", "title": f"{model.__name__}Form", "properties": {**files, **fields}, "required": required}
    # Generators of clients stumble over a choice of bodies: the form is what OpenAI's own clients send.
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


def router(services: Services) -> APIRouter:
    """The routes of OpenAI's images API."""
    routes = APIRouter(prefix="/v1", tags=["openai"])
    links = Links()
    _add_models(routes, services)
    _add_files(routes, services, links)

    async def answer(order: Order, request: Request, kind: str) -> Response | dict[str, JsonValue]:
        job = await services.submit(order.request)
        name_job(request, job.id)
        if order.partial_images is not None:
            stream = Stream(services, job, order, kind)
            return StreamingResponse(
                aiter(stream), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
            )
        return await whole_answer(services, job, await await_job(services, job, request), order, request, links)

    async def planned(make: Callable[[], Order]) -> Order:
        # It looks into files for the size that a model draws best.
        return await services.run_in_thread(make)

    @routes.post("/images/generations", operation_id="create_image", **_IMAGES)
    async def generations(body: CreateImageRequest, request: Request) -> Response | dict[str, JsonValue]:
        """Draw pictures from a text."""
        return await answer(await planned(lambda: drawing.generation(services, body)), request, "image_generation")

    @routes.post(
        "/images/edits", operation_id="create_image_edit", openapi_extra=_body_of(CreateImageEditRequest), **_IMAGES
    )
    async def edits(request: Request) -> Response | dict[str, JsonValue]:
        """Repaint a picture, or what is transparent in it or in its mask, by a text.

        The same as JSON: ``image`` and ``mask`` are data URLs or base64.
        """
        given = await read(request, CreateImageEditRequest)
        image, mask = await opened(services, given.images, given.mask)
        order = await planned(lambda: drawing.edit(services, given.parameters, image, mask))
        return await answer(order, request, "image_edit")

    @routes.post(
        "/images/variations",
        operation_id="create_image_variation",
        openapi_extra=_body_of(CreateImageVariationRequest),
        **_IMAGES,
    )
    async def variations(request: Request) -> Response | dict[str, JsonValue]:
        """Draw variations of a picture.

        The same as JSON: ``image`` is a data URL or base64.
        """
        given = await read(request, CreateImageVariationRequest)
        if given.mask is not None:
            raise refusal("Unknown parameter: 'mask'.", param="mask", code="unknown_parameter")
        image, _ = await opened(services, given.images, None)
        order = await planned(lambda: drawing.variation(services, given.parameters, image))
        return await answer(order, request, "image_variation")

    return routes


def _add_models(routes: APIRouter, services: Services) -> None:
    def models_reply(model: type[BaseModel]) -> dict[str, Any]:
        return {"response_model": None, "responses": _ERRORS | {200: {"model": model}}}

    @routes.get("/models", operation_id="list_models", **models_reply(ListModelsResponse))
    async def models() -> dict[str, JsonValue]:
        """Every checkpoint, as a model."""
        data = await services.run_in_thread(lambda: [entry_of(known) for known in services.models.checkpoints])
        return ListModelsResponse(data=data).model_dump()

    @routes.get("/models/{model_id:path}", operation_id="retrieve_model", **models_reply(ModelEntry))
    async def model(model_id: str) -> dict[str, JsonValue]:
        """One checkpoint, by any name that selects it."""
        checkpoint, _ = chosen(services, model_id)
        return entry_of(checkpoint).model_dump()


def _add_files(routes: APIRouter, services: Services, links: Links) -> None:
    media: dict[Format, Literal["image/png", "image/jpeg", "image/webp"]] = {
        "png": "image/png",
        "jpeg": "image/jpeg",
        "webp": "image/webp",
    }

    @routes.get(
        PATH.removeprefix("/v1") + "/{name}",
        operation_id="get_image_file",
        response_class=Response,
        openapi_extra={"x-public": True},
        responses=_ERRORS
        | {200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in media.values()}}},
    )
    async def file(
        name: Annotated[str, Path(pattern=r"^\d{1,3}\.(png|jpeg|webp)$")],
        job: Annotated[str, Query(max_length=128)],
        signature: str,
        compression: Annotated[int, Query(ge=0, le=100)] = 100,
    ) -> Response:
        """A picture behind the signed URL of an answer with ``response_format`` ``url``; no key is needed."""
        links.check(job, name, compression, signature)
        number, _, format = name.partition(".")
        pictures = pictures_of(services.queue.get(job).outcome())
        if int(number) >= len(pictures):
            raise NotFound("there is no such picture")
        picture = pictures[int(number)]
        data = await services.run_in_thread(lambda: file_of(picture.image, format, compression, dict(picture.info)))
        kind = next(kind for known, kind in media.items() if known == format)
        return Response(data, media_type=kind, headers={"Cache-Control": "private, no-store"})
