"""What a generation may cost at most, told from its request alone."""

from __future__ import annotations

from typing import Any

from latentd.errors import InvalidRequest, TooLarge
from latentd.server.schemas.generation import GenerationBody, Img2ImgRequest
from latentd.settings import Settings

#: Strengths, scales and noise levels beyond this give pictures of nothing but NaN.
LARGEST_NUMBER = 1e4
#: Pixels that a mask may be blurred over.
LARGEST_BLUR = 2048

_COUNTS = ("batch_size", "n_iter", "steps")
_NOT_NEGATIVE = ("s_churn", "inpaint_full_res_padding")
_BLURS = ("mask_blur", "mask_blur_x", "mask_blur_y")
#: Noise levels, which may be anything: they are compared with, not computed with.
_LEVELS = frozenset({"s_tmin", "s_tmax", "s_min_uncond"})


def check_bounds(body: GenerationBody, settings: Settings) -> None:
    """Refuse what would take more memory or time than the flags allow, or could not give a picture.

    :raises TooLarge: over a bound. :raises InvalidRequest: a count below 1, or a number out of all proportion.
    """
    _check_numbers(body)
    batch, iterations, steps = body.batch_size or 1, body.n_iter or 1, body.steps or 1
    if batch * iterations > settings.max_images:
        raise TooLarge(f"{batch * iterations} images are over the limit of {settings.max_images}", hint="--max-images")
    if max(steps, getattr(body, "hr_second_pass_steps", 0) or 0) > settings.max_steps:
        raise TooLarge(f"more than {settings.max_steps} steps are over the limit", hint="--max-steps")
    noise = (max(body.seed_resize_from_w or 1, 1), max(body.seed_resize_from_h or 1, 1))
    for width, height in ((body.width, body.height), _first_size(body), _hires_size(body), noise):
        if (width or 512) * (height or 512) > settings.max_image_mp * 1_000_000:
            raise TooLarge(f"{width}x{height} is over {settings.max_image_mp} megapixels", hint="--max-image-mp")


def _check_numbers(body: GenerationBody) -> None:
    given: dict[str, Any] = {
        name: value for name in type(body).model_fields if (value := getattr(body, name)) is not None
    }
    for name in _COUNTS:
        if given.get(name, 1) < 1:
            raise InvalidRequest(f"{name} is {given[name]}; it must be at least 1")
    for name in _NOT_NEGATIVE:
        if given.get(name, 0) < 0:
            raise InvalidRequest(f"{name} is {given[name]}; it must not be negative")
    for name in _BLURS:
        if given.get(name, 0) > LARGEST_BLUR:
            raise InvalidRequest(f"{name} is {given[name]}; it must be at most {LARGEST_BLUR}")
    for name, value in given.items():
        if isinstance(value, float) and name not in _LEVELS and abs(value) > LARGEST_NUMBER:
            raise InvalidRequest(f"{name} is {value}; it must be within {LARGEST_NUMBER:g}")


def _first_size(body: GenerationBody) -> tuple[int, int]:
    """The size of the first pass where it has one of its own, which it has without hires fix too; 1x1 without."""
    if isinstance(body, Img2ImgRequest):
        return 1, 1
    return body.firstphase_width or 1, body.firstphase_height or 1


def _hires_size(body: GenerationBody) -> tuple[int, int]:
    """The largest size that hires fix may reach, as far as the body alone tells; 1x1 without."""
    if isinstance(body, Img2ImgRequest) or not body.enable_hr:
        return 1, 1
    scale = body.hr_scale if body.hr_scale is not None else 2.0
    width, height = body.firstphase_width or body.width or 512, body.firstphase_height or body.height or 512
    return max(int(width * scale), body.hr_resize_x or 0), max(int(height * scale), body.hr_resize_y or 0)
