"""Routes ``/rembg`` and ``/sdapi/v1/rembg``."""

from __future__ import annotations

import base64
import logging
from typing import Annotated

from PIL import Image
from pydantic import BaseModel, Field

from latentd.api import (
    APIRouter,
    JobControl,
    JsonValue,
    LenientBool,
    LenientInt,
    LenientModel,
    LenientStr,
    Services,
    TooLarge,
    WorkerContext,
    check_size,
    picture_bytes,
    reply_of,
)
from latentd_rembg.cutting import Matting, cut_out, matte, stacked
from latentd_rembg.networks import CLOTHES, find_weights, predict_masks

log = logging.getLogger(__name__)

LARGEST_ERODE = 1024
MOST_MATTED = 4_000_000
"""Pixels of a picture up to which its opacity is estimated; each takes about 250 bytes meanwhile."""

Level = Annotated[LenientInt, Field(ge=0, le=255)]


class RembgBody(LenientModel):
    """Body of both routes."""

    input_image: LenientStr = Field("", description="Base64 or data URL.")
    model: LenientStr = Field("u2net", description="A name of rembg's; None gives no answer.")
    return_mask: LenientBool = Field(False, description="The mask in place of the picture.")
    alpha_matting: LenientBool = Field(False, description="Estimate opacity and colours at the edges.")
    alpha_matting_foreground_threshold: Level = Field(240, description="Mask values above it are foreground.")
    alpha_matting_background_threshold: Level = Field(10, description="Mask values below it are background.")
    alpha_matting_erode_size: Annotated[LenientInt, Field(ge=0, le=LARGEST_ERODE)] = Field(
        10, description="Pixels by which both are narrowed."
    )


class Removed(BaseModel):
    """Reply of both routes."""

    image: str | None = Field(None, description="Base64 of a PNG file; null where the model was None.")
    warnings: list[str] | None = Field(None, description="What has no effect; left out where there is none.")


def router(services: Services) -> APIRouter:
    """Both routes, which differ in what they answer to the model None alone."""
    routes = APIRouter(tags=["rembg"])

    @routes.post("/rembg", name="rembg_remove", **reply_of(Removed))
    async def extension(body: RembgBody) -> dict[str, JsonValue] | None:
        """The picture without its background, as AUTOMATIC1111's extension."""
        return await answer(services, body) if _asked(body) else None

    @routes.post("/sdapi/v1/rembg", name="post_rembg", **reply_of(Removed))
    async def sdnext(body: RembgBody) -> dict[str, JsonValue]:
        """The picture without its background, as SD.Next."""
        return await answer(services, body) if _asked(body) else {}

    return routes


def _asked(body: RembgBody) -> bool:
    return body.model not in ("", "None")


async def answer(services: Services, body: RembgBody) -> dict[str, JsonValue]:
    """The reply to ``body``.

    :raises LatentdError: the picture or the model cannot be used; see :func:`find_weights`.
    """
    weights = await services.run_in_thread(lambda: find_weights(services, body.model))
    image = await services.decode_image(body.input_image)
    _check_sizes(image, body, services)
    warnings = body.unknown_warnings

    def work(control: JobControl) -> Image.Image:
        context = services.worker_context(control)
        masks = predict_masks(image.convert("RGB"), body.model, weights, context)
        return stacked(masks if body.return_mask else [_cut(image, mask, body, context, warnings) for mask in masks])

    picture = await services.run_on_worker(work, kind="rembg")
    for sentence in warnings:
        log.warning("rembg: %s", sentence)
    file = await services.run_in_thread(lambda: picture_bytes(picture, format="png"))
    reply: dict[str, JsonValue] = {"image": base64.b64encode(file).decode("ascii")}
    return {**reply, "warnings": warnings} if warnings else reply


def _check_sizes(image: Image.Image, body: RembgBody, services: Services) -> None:
    count = CLOTHES if body.model == "u2net_cloth_seg" else 1
    check_size(image.width, image.height * count, services.settings)
    if body.alpha_matting and not body.return_mask and image.width * image.height > MOST_MATTED:
        raise TooLarge(
            f"alpha_matting takes pictures of up to {MOST_MATTED / 1e6:g} megapixels",
            hint="send a smaller picture, or leave alpha_matting out",
        )


def _cut(
    image: Image.Image, mask: Image.Image, body: RembgBody, context: WorkerContext, warnings: list[str]
) -> Image.Image:
    """The picture cut out by one mask; a sentence is added to ``warnings`` where alpha matting cannot be done."""
    if body.alpha_matting:
        matting = Matting(
            foreground=body.alpha_matting_foreground_threshold,
            background=body.alpha_matting_background_threshold,
            erode=body.alpha_matting_erode_size,
        )
        matted = matte(image, mask, matting, context.check)
        if matted is not None:
            return matted
        warnings.append(
            "alpha_matting has no effect: under its thresholds the mask has no sure foreground, or no sure background"
        )
    return cut_out(image, mask)
