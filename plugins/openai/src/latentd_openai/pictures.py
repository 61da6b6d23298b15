"""Pictures of requests: from uploads and JSON to PIL, what is repainted, and the size that is drawn."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from latentd.api import InvalidImage, JsonValue, Services
from latentd_openai.errors import refusal

if TYPE_CHECKING:
    from PIL.Image import Image

_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
#: Most pixels of an edit whose size the request leaves open; larger pictures are made smaller in proportion.
LARGEST_AUTO = 1024 * 1024
#: Sides of pictures are multiples of it.
_MULTIPLE = 8

Source = bytes | str
"""A picture as it came: a file's bytes, or a text that stands for one."""


async def opened(services: Services, images: Sequence[Source], mask: Source | None) -> tuple[Image, Image | None]:
    """The picture of a request, and its mask if there is one, decoded.

    :raises HTTPException: there is none, or more than one, or one is no picture.
    """
    if not images:
        raise refusal("Missing required parameter: 'image'.", param="image", code="missing_required_parameter")
    if len(images) > 1:
        raise refusal("this server edits one picture at a time; send one 'image'", param="image", code="invalid_value")

    def decode() -> tuple[Image, Image | None]:
        decoder = services.image_decoder()

        def one(source: Source, name: str) -> Image:
            try:
                return decoder(source if isinstance(source, str) else base64.b64encode(source).decode("ascii"))
            except InvalidImage as error:
                words = f"{error.detail} ({error.hint})" if error.hint else error.detail
                raise refusal(f"'{name}' is not a picture: {words}", param=name, code="invalid_image_format") from None

        return one(images[0], "image"), None if mask is None else one(mask, "mask")

    return await services.run_in_thread(decode)


def text_of(value: JsonValue, name: str) -> str:
    """The text that stands for a picture in JSON: itself, or that in ``image_url``.

    :raises HTTPException: there is no such text.
    """
    if isinstance(value, Mapping):
        value = value.get("image_url")
        value = value.get("url") if isinstance(value, Mapping) else value
    if isinstance(value, str) and value:
        return value
    raise refusal(
        f"Invalid value for '{name}': a data URL, base64 or an object with 'image_url'; there are no files here.",
        param=name,
        code="invalid_value",
    )


def repainted(image: Image, mask: Image | None) -> Image | None:
    """The inpainting mask [L] of the image's size, white where it is repainted; None if all of it is.

    Repainted is what is transparent in ``mask``, or without one what is transparent in the image.

    :raises HTTPException: the mask is of another size, or nothing in it is transparent.
    """
    from PIL import ImageOps

    if mask is None:
        if not _is_transparent(image):
            return None
        return ImageOps.invert(image.getchannel("A"))
    if mask.size != image.size:
        raise refusal(
            f"'mask' is {mask.width}x{mask.height} and 'image' {image.width}x{image.height}; they must be of one size",
            param="mask",
            code="invalid_mask_image_format",
        )
    if not _is_transparent(mask):
        raise refusal(
            "'mask' has nothing that is transparent; its transparent part is what is repainted",
            param="mask",
            code="invalid_mask_image_format",
        )
    return ImageOps.invert(mask.getchannel("A"))


def _is_transparent(image: Image) -> bool:
    return image.mode == "RGBA" and image.getchannel("A").histogram()[255] < image.width * image.height


def size_of(text: str | None) -> tuple[int, int] | None:
    """(width, height) in pixels; None for ``auto``.

    :raises HTTPException: it is neither.
    """
    if not text or text == "auto":
        return None
    if (found := _SIZE.fullmatch(text)) is None:
        raise refusal(f"Invalid value for 'size': {text[:50]!r} is not WIDTHxHEIGHT or auto.", param="size")
    return int(found[1]), int(found[2])


def size_like(image: Image) -> tuple[int, int]:
    """The image's own size, in proportion at most :data:`LARGEST_AUTO` pixels, and in whole eights."""
    shrink = min(1.0, (LARGEST_AUTO / (image.width * image.height)) ** 0.5)
    width, height = (max(round(side * shrink / _MULTIPLE), 1) * _MULTIPLE for side in image.size)
    return width, height
