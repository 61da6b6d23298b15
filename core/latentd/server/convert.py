"""From a request body to a :class:`~latentd.types.GenerationRequest`, and back to the echo in ``parameters``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from latentd.errors import InvalidRequest, NotFound
from latentd.pipeline.planning.limits import check_init_count
from latentd.server.schemas.generation import GenerationBody, Img2ImgRequest
from latentd.types import GenerationRequest, JsonValue

if TYPE_CHECKING:
    from latentd.server.images import ImageIO

Mode = Literal["txt2img", "img2img"]

# Fields of the body that are not copied to the request: pictures, fields without effect, and the mode, which the body's
# class determines.
_PICTURES = frozenset({"firstpass_image", "init_images", "mask", "latent_mask"})
_DROPPED = frozenset({"mode", "do_not_save_samples", "do_not_save_grid"})


def mode_of(body: GenerationBody) -> Mode:
    """Which endpoint the body belongs to."""
    return "img2img" if isinstance(body, Img2ImgRequest) else "txt2img"


def given_fields(body: GenerationBody) -> frozenset[str]:
    """Names of the fields that the client sent with a value other than null."""
    return frozenset(name for name in body.model_fields_set if getattr(body, name) is not None)


def echo(body: GenerationBody) -> dict[str, JsonValue]:
    """``parameters`` of the reply: every field of 1.8 in its order, newer ones where they were sent."""
    fields = body.model_dump()
    for name in body.echoed_when_sent - body.model_fields_set:
        fields.pop(name, None)
    if isinstance(body, Img2ImgRequest) and not body.include_init_images:
        fields |= {"init_images": None, "mask": None}
    return fields


def to_request(body: GenerationBody) -> GenerationRequest:
    """The request in ``body`` (infotext applied), without its pictures: see :func:`with_pictures`."""
    fields = {
        name: value
        for name in type(body).model_fields
        if name not in _PICTURES | _DROPPED and (value := getattr(body, name)) is not None
    }
    fields["styles"] = tuple(body.styles or ())
    fields["warnings"] = tuple(body.unknown_warnings)
    return GenerationRequest(mode=mode_of(body), present=given_fields(body), **fields)


async def with_pictures(request: GenerationRequest, body: GenerationBody, images: ImageIO) -> GenerationRequest:
    """``request`` with the pictures of ``body``, decoded.

    :raises NotFound: img2img without a picture.
    :raises InvalidImage: a picture cannot be decoded.
    :raises InvalidRequest: more pictures than the batch size.
    :raises TooLarge: too many pixels in all.
    """
    return replace(request, **await _pictures(body, images))


async def _pictures(body: GenerationBody, images: ImageIO) -> dict[str, JsonValue]:
    names = ("mask", "latent_mask", "firstpass_image") if isinstance(body, Img2ImgRequest) else ("firstpass_image",)
    given = {name: text for name in names if (text := getattr(body, name))}
    if not isinstance(body, Img2ImgRequest):
        return dict(zip(given, await images.decode_all(list(given.values())), strict=True))
    if body.init_images is None:
        raise NotFound("Init image not found", hint="img2img needs init_images, a list of base64 texts")
    if not body.init_images:
        raise InvalidRequest("init_images is empty", hint="give at least one picture")
    check_init_count(len(body.init_images), body.batch_size or 1)
    count = len(body.init_images)
    decoded = await images.decode_all([*body.init_images, *given.values()])
    return {"init_images": tuple(decoded[:count]), **dict(zip(given, decoded[count:], strict=True))}
