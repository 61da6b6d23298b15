"""From a request body to a :class:`~latentd.types.GenerationRequest`, and back to the echo in ``parameters``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from latentd.errors import InvalidRequest, NotFound, TooLarge
from latentd.server.schemas.generation import GenerationBody, Img2ImgRequest
from latentd.types import GenerationRequest

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.prompts.styles import Style
    from latentd.server.images import ImageIO
    from latentd.settings import Settings

Mode = Literal["txt2img", "img2img"]

# Fields that name pictures, or do nothing, or (mode) are told by the body's class; the others go over as they are.
_PICTURES = frozenset({"firstpass_image", "init_images", "mask", "latent_mask"})
_DROPPED = frozenset({"mode", "do_not_save_samples", "do_not_save_grid"})
# "GPU" is what an infotext without the key means, and it names the machine the picture was made on: no reason to
# leave the noise source that this server was told to use.
_RNG_KEY = "RNG"


def mode_of(body: GenerationBody) -> Mode:
    """Which endpoint the body belongs to."""
    return "img2img" if isinstance(body, Img2ImgRequest) else "txt2img"


def given_fields(body: GenerationBody) -> frozenset[str]:
    """Names of the fields that the client sent with a value; null is no value."""
    return frozenset(name for name in body.model_fields_set if getattr(body, name) is not None)


def with_infotext(body: GenerationBody, options: Mapping[str, Any], styles: Mapping[str, Style]) -> GenerationBody:
    """The body with what its ``infotext`` says about fields it leaves out, and about options (endpoints 1.5).

    :raises InvalidRequest: the infotext has a text where a number belongs.
    """
    if not body.infotext:
        return body
    from latentd.infotext.apply import override_settings, request_fields
    from latentd.infotext.parse import ParseOptions, parse_infotext

    parameters = parse_infotext(
        body.infotext,
        ParseOptions(
            styles=list(styles.values()),
            infotext_styles=str(options["infotext_styles"]),
            skip=frozenset(options["infotext_skip_pasting"]),
            auto_backcompat=bool(options["auto_backcompat"]),
            old_hires_size=bool(options["use_old_hires_fix_width_height"]),
        ),
    )
    changes = request_fields(parameters, mode_of(body), given_fields(body))
    if f"{_RNG_KEY}:" not in body.infotext:
        parameters.pop(_RNG_KEY, None)
    swap = bool(options["disable_weights_auto_swap"])
    overrides = override_settings(parameters, options, disable_weights_auto_swap=swap)
    if overrides:
        changes["override_settings"] = overrides | (body.override_settings or {})
    return body.model_copy(update=changes)


def echo(body: GenerationBody) -> dict[str, Any]:
    """``parameters`` of the reply: every field of 1.8 in its order, newer ones where they were sent."""
    fields = body.model_dump()
    for name in body.echoed_when_sent - body.model_fields_set:
        fields.pop(name, None)
    if isinstance(body, Img2ImgRequest) and not body.include_init_images:
        fields |= {"init_images": None, "mask": None}
    return fields


def check_bounds(body: GenerationBody, settings: Settings) -> None:
    """Refuse what would take more memory or time than the flags allow.

    :raises TooLarge: over a bound. :raises InvalidRequest: a count below 1.
    """
    batch, iterations, steps = body.batch_size or 1, body.n_iter or 1, body.steps or 1
    for name in ("batch_size", "n_iter", "steps"):
        value = getattr(body, name)
        if value is not None and value < 1:
            raise InvalidRequest(f"{name} is {value}; it must be at least 1")
    if body.s_churn is not None and body.s_churn < 0:
        raise InvalidRequest(f"s_churn is {body.s_churn}; it must not be negative")
    if batch * iterations > settings.max_images:
        raise TooLarge(f"{batch * iterations} images are over the limit of {settings.max_images}", hint="--max-images")
    if max(steps, getattr(body, "hr_second_pass_steps", 0) or 0) > settings.max_steps:
        raise TooLarge(f"more than {settings.max_steps} steps are over the limit", hint="--max-steps")
    for width, height in ((body.width, body.height), _hires_size(body)):
        if (width or 512) * (height or 512) > settings.max_image_mp * 1_000_000:
            raise TooLarge(f"{width}x{height} is over {settings.max_image_mp} megapixels", hint="--max-image-mp")


def _hires_size(body: GenerationBody) -> tuple[int, int]:
    """The largest size that hires fix may reach, as far as the body alone tells; 1x1 without."""
    if isinstance(body, Img2ImgRequest) or not body.enable_hr:
        return 1, 1
    scale = body.hr_scale if body.hr_scale is not None else 2.0
    width, height = body.firstphase_width or body.width or 512, body.firstphase_height or body.height or 512
    return max(int(width * scale), body.hr_resize_x or 0), max(int(height * scale), body.hr_resize_y or 0)


async def to_request(body: GenerationBody, images: ImageIO) -> GenerationRequest:
    """The request that ``body`` (infotext applied) asks for, its pictures decoded.

    :raises NotFound: img2img without a picture. :raises InvalidImage: a picture does not decode.
    """
    fields = {
        name: value
        for name in type(body).model_fields
        if name not in _PICTURES | _DROPPED and (value := getattr(body, name)) is not None
    }
    fields["styles"] = tuple(body.styles or ())
    fields |= await _pictures(body, images)
    return GenerationRequest(mode=mode_of(body), present=given_fields(body), **fields)


async def _pictures(body: GenerationBody, images: ImageIO) -> dict[str, Any]:
    async def one(text: str | None) -> Image | None:
        return await images.decode(text) if text else None

    if not isinstance(body, Img2ImgRequest):
        return {"firstpass_image": await one(body.firstpass_image)}
    if body.init_images is None:
        raise NotFound("Init image not found", hint="img2img needs init_images, a list of base64 texts")
    if not body.init_images:
        raise InvalidRequest("init_images is empty", hint="give at least one picture")
    init: Sequence[Image] = await asyncio.gather(*(images.decode(text) for text in body.init_images))
    mask, latent_mask = await asyncio.gather(one(body.mask), one(body.latent_mask))
    firstpass = await one(body.firstpass_image)
    return {"init_images": tuple(init), "mask": mask, "latent_mask": latent_mask, "firstpass_image": firstpass}
