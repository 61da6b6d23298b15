"""Limits on the cost of a generation, checked from its request before anything is computed.

They apply to every caller: HTTP, ``services.generate`` of plugins, scripts that plan further generations, and the
command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from latentd.errors import InvalidRequest, TooLarge
from latentd.prompts.attention import parse_attention
from latentd.prompts.composition import split_composition
from latentd.prompts.editing import schedule
from latentd.prompts.networks import extract_networks

if TYPE_CHECKING:
    from latentd.generations import Plan
    from latentd.settings import Settings
    from latentd.types import GenerationRequest

#: Larger strengths, scales and noise levels lead to pictures of nothing but NaN.
LARGEST_NUMBER = 1e4
#: Most steps of a schedule of which, with a low denoising strength and exact steps, only the last ones are made.
LONGEST_SCHEDULE = 1_000_000
#: Largest blur of a mask in pixels.
LARGEST_BLUR = 2048
#: How many times the longest allowed prompt all distinct prompts of a request may be long together.
MOST_PROMPTS = 400
#: Most chunks of 75 tokens that are encoded for all steps of one prompt.
MOST_ENCODINGS = 20_000
#: Most characters of a name of a sampler, a script, a style...
LONGEST_NAME = 1000
#: Most entries of a request's lists: styles, overrides, scripts. There are about 250 options.
MOST_ENTRIES = 1000
#: How many times the longest allowed prompt an infotext may be long: it has up to four prompts and the parameters.
INFOTEXT_PROMPTS = 8
#: Characters in a chunk, an estimate that is low enough for any language, because the tokenizer depends on the model.
CHUNK_CHARACTERS = 75
#: Most characters of a prompt that an error quotes.
SHOWN = 60

_COUNTS = ("batch_size", "n_iter", "steps")
_NOT_NEGATIVE = ("s_churn", "inpaint_full_res_padding")
_BLURS = ("mask_blur", "mask_blur_x", "mask_blur_y")
#: Noise levels without limits: they are only compared with others.
_LEVELS = frozenset({"s_tmin", "s_tmax", "s_min_uncond"})
_PROMPTS = ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt")
_ENTRIES = ("styles", "override_settings", "alwayson_scripts", "script_args")
_HIRES = ("hr_second_pass_steps", "hr_scale", "hr_resize_x", "hr_resize_y")
_COVER = 1
_BREAK = re.compile(r"\bBREAK\b")


def check_request(request: GenerationRequest, settings: Settings) -> None:
    """Refuse numbers over the limits. Pictures need not be decoded before.

    :raises TooLarge: over a limit; the hint names the flag.
    :raises InvalidRequest: a count below 1, or a number out of all proportion.
    """
    _check_numbers(request)
    _check_names(request)
    for texts in (getattr(request, name) for name in _PROMPTS):
        check_length([texts] if isinstance(texts, str) else texts, settings)
    check_images(request.batch_size * request.n_iter, settings)
    check_steps(max(request.steps, request.hr_second_pass_steps), settings)
    noise = (max(request.seed_resize_from_w, 1), max(request.seed_resize_from_h, 1))
    sizes = (request.width, request.height), _first_size(request), _hires_size(request), noise
    for width, height in sizes:
        check_size(width, height, settings)
    largest = max(width * height for width, height in sizes)
    check_pixels(largest * request.batch_size, request.batch_size * request.n_iter * largest, settings)


def check_init_count(count: int, batch_size: int) -> None:
    """Check the number of init images.

    :raises InvalidRequest: there are more than pictures in the batch; in AUTOMATIC1111's words.
    """
    if count > batch_size:
        raise InvalidRequest(f"bad number of images passed: {count}; expecting {batch_size} or less")


def check_infotext(text: str, settings: Settings) -> None:
    """Check the length of an infotext.

    :raises TooLarge: it is longer than :data:`INFOTEXT_PROMPTS` times the longest allowed prompt.
    """
    if len(text) > INFOTEXT_PROMPTS * settings.max_prompt_length:
        raise TooLarge(f"an infotext of {len(text)} characters is too long", hint="--max-prompt-length")


def check_cover(picture: tuple[int, int], size: tuple[int, int], settings: Settings) -> None:
    """Refuse to cover ``size`` with ``picture``, (width, height), if it would become far too large before it is cut.

    :raises TooLarge: it would be over ``--max-image-mp``.
    """
    factor = max(size[0] / picture[0], size[1] / picture[1])
    check_size(int(picture[0] * factor), int(picture[1] * factor), settings)


def check_weight(weight: float, what: str) -> None:
    """Check the weight of ``what``.

    :raises InvalidRequest: it is far too large, or not a number.
    """
    if not abs(weight) <= LARGEST_NUMBER:
        raise InvalidRequest(f"{what} has the weight {weight:g}; it must be within {LARGEST_NUMBER:g}")


def check_entries(entries: object, what: str) -> None:
    """Check the number of entries of ``what``.

    :raises InvalidRequest: there are more than :data:`MOST_ENTRIES`.
    """
    if isinstance(entries, Sequence | Mapping) and len(entries) > MOST_ENTRIES:
        raise InvalidRequest(f"{what} has {len(entries)} entries; it must have at most {MOST_ENTRIES}")


def check_plan(plan: Plan, settings: Settings) -> None:
    """Refuse a plan over the limits, which scripts and options may exceed by their own arguments.

    :raises TooLarge: over a limit; the hint names the flag.
    """
    for width, height in _sizes(plan):
        check_size(width, height, settings)
    check_steps(max(plan.steps, plan.hires.steps if plan.hires else 0), settings)
    _check_schedule(plan)
    check_images(len(plan.prompts), settings)
    largest = largest_area(plan)
    check_pixels(largest * plan.batch_size, largest * len(plan.prompts), settings)
    hires = plan.hires
    texts = {*plan.prompts, *(hires.prompts if hires else ())}
    negatives = {*plan.negative_prompts, *(hires.negative_prompts if hires else ())}
    check_prompts(texts, negatives, plan.steps, settings)
    if plan.options["emphasis"] not in ("None", "Ignore"):
        for text in texts | negatives:
            _check_emphasis(text)
    if plan.request.mode == "img2img" and plan.request.resize_mode == _COVER:
        for image in plan.request.init_images:
            check_cover(image.size, (plan.width, plan.height), settings)


def _check_schedule(plan: Plan) -> None:
    """Refuse a strength so small that the schedule, of which its steps are the end, would be endless."""
    exact = [(plan.hires.steps, plan.hires.denoising_strength)] if plan.hires else []
    if plan.request.mode == "img2img" and plan.options["img2img_fix_steps"]:
        exact.append((plan.steps, plan.denoising_strength or 0.0))
    for steps, strength in exact:
        if 0 < strength < steps / LONGEST_SCHEDULE:
            raise InvalidRequest(
                f"denoising_strength is {strength:g}; {steps} steps at it would take an endless schedule"
            )


def largest_area(plan: Plan) -> int:
    """Pixels of the largest pass of ``plan``, of one picture."""
    return max(width * height for width, height in _sizes(plan))


def _sizes(plan: Plan) -> list[tuple[int, int]]:
    return [(plan.width, plan.height), *([plan.hires.final_size] if plan.hires else [])]


def check_size(width: int, height: int, settings: Settings) -> None:
    """Check the size of a picture in pixels.

    :raises TooLarge: it is over ``--max-image-mp`` or ``--max-image-side``.
    """
    if width * height > settings.max_pixels:
        raise TooLarge(f"{width}x{height} is over {settings.max_image_mp:g} megapixels", hint="--max-image-mp")
    if max(width, height) > settings.max_image_side:
        raise TooLarge(f"{width}x{height} has a side of over {settings.max_image_side} pixels", hint="--max-image-side")


def check_steps(steps: int, settings: Settings) -> None:
    """Check the number of sampling steps.

    :raises TooLarge: there are more than ``--max-steps``.
    """
    if steps > settings.max_steps:
        raise TooLarge(f"more than {settings.max_steps} steps are over the limit", hint="--max-steps")


def check_images(count: int, settings: Settings) -> None:
    """Check the number of pictures.

    :raises TooLarge: there are more than ``--max-images``.
    """
    if count > settings.max_images:
        raise TooLarge(f"{count} images are over the limit of {settings.max_images}", hint="--max-images")


def check_pixels(batch: int, total: int, settings: Settings) -> None:
    """Refuse pictures that are small enough each, but too large together.

    :param batch: pixels of the pictures that are sampled together.
    :param total: pixels of all pictures of the request.
    :raises TooLarge: they are over ``--max-batch-mp`` or ``--max-total-mp``.
    """
    if batch > settings.max_batch_pixels:
        raise TooLarge(f"a batch of over {settings.max_batch_mp:g} megapixels is too large", hint="--max-batch-mp")
    if total > settings.max_total_pixels:
        raise TooLarge(f"over {settings.max_total_mp:g} megapixels in one request are too many", hint="--max-total-mp")


def check_prompts(prompts: Iterable[str], negatives: Iterable[str], steps: int, settings: Settings) -> None:
    """Refuse prompts that would keep the text encoders or the UNet busy for too long.

    :raises TooLarge: a prompt that is too long, or has too many parts, networks or versions; all of them together.
    """
    prompts, negatives = list(prompts), list(negatives)
    check_length([*prompts, *negatives], settings)
    for text in prompts:
        bare, tags = extract_networks(text)
        _check_parts(len(tags), "networks", settings)
        parts = split_composition(bare)
        _check_parts(len(parts), "prompts joined by AND", settings)
        for part in parts:
            check_weight(part.weight, f"{_short(part.text)!r}")
            _check_versions(part.text, steps, settings)
    for text in negatives:
        _check_versions(text, steps, settings)


def check_length(texts: Sequence[str], settings: Settings) -> None:
    """Check the lengths of ``texts``.

    :raises TooLarge: one is longer than ``--max-prompt-length``, or all together are far longer.
    """
    total, limit = sum(map(len, texts)), settings.max_prompt_length
    if total > MOST_PROMPTS * limit:
        raise TooLarge(f"{total} characters of prompts are too many", hint="--max-prompt-length")
    if (longest := max(map(len, texts), default=0)) > limit:
        raise TooLarge(f"a prompt of {longest} characters is over the limit of {limit}", hint="--max-prompt-length")


def _check_parts(count: int, what: str, settings: Settings) -> None:
    if count > settings.max_prompt_parts:
        raise TooLarge(
            f"{count} {what} in one prompt are over the limit of {settings.max_prompt_parts}", hint="--max-prompt-parts"
        )


def _check_versions(text: str, steps: int, settings: Settings) -> None:
    """Refuse a prompt if all texts that prompt editing makes of it have too many chunks together."""
    breaks = len(_BREAK.findall(text))
    _check_parts(breaks, "BREAKs", settings)
    if "[" not in text or len(text) < CHUNK_CHARACTERS:
        return
    versions = {segment.text for segment in schedule(text, steps)}
    chunks = sum(len(version) // CHUNK_CHARACTERS + 1 + breaks for version in versions)
    if chunks > MOST_ENCODINGS:
        raise TooLarge(
            f"prompt editing makes {len(versions)} texts of this prompt, too much to encode",
            hint="edit less of it, or use fewer steps",
        )


def _check_emphasis(text: str) -> None:
    """Refuse brackets whose weights are so large that the encoding would not be finite."""
    if "(" in text:
        for piece in parse_attention(text):
            check_weight(piece.weight, f"({_short(piece.text)})")


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _check_names(request: GenerationRequest) -> None:
    """Refuse names and lists that are far longer than valid ones."""
    for name in (field.name for field in fields(request) if field.name not in (*_PROMPTS, "infotext")):
        value = getattr(request, name)
        if isinstance(value, str) and len(value) > LONGEST_NAME:
            raise InvalidRequest(f"{name} has {len(value)} characters; it must have at most {LONGEST_NAME}")
    for name in _ENTRIES:
        check_entries(getattr(request, name), name)
    for style in request.styles:
        if len(style) > LONGEST_NAME:
            raise InvalidRequest(f"a style's name has {len(style)} characters; it must have at most {LONGEST_NAME}")


def _check_numbers(request: GenerationRequest) -> None:
    for name in _COUNTS:
        if getattr(request, name) < 1:
            raise InvalidRequest(f"{name} is {getattr(request, name)}; it must be at least 1")
    for name in _NOT_NEGATIVE:
        if (getattr(request, name) or 0) < 0:
            raise InvalidRequest(f"{name} is {getattr(request, name)}; it must not be negative")
    for name in _HIRES if request.enable_hr else ():
        if getattr(request, name) < 0:
            raise InvalidRequest(f"{name} is {getattr(request, name)}; it must not be negative")
    for name in _BLURS:
        if (getattr(request, name) or 0) > LARGEST_BLUR:
            raise InvalidRequest(f"{name} is {getattr(request, name)}; it must be at most {LARGEST_BLUR}")
    for name in (field.name for field in fields(request)):
        value = getattr(request, name)
        if isinstance(value, float) and name not in _LEVELS and not abs(value) <= LARGEST_NUMBER:
            raise InvalidRequest(f"{name} is {value}; it must be within {LARGEST_NUMBER:g}")


def _first_size(request: GenerationRequest) -> tuple[int, int]:
    """The size given for the first pass, which also counts without hires fix; 1x1 if none is given."""
    return request.firstphase_width or 1, request.firstphase_height or 1


def _hires_size(request: GenerationRequest) -> tuple[int, int]:
    """The largest size that hires fix may reach by the request alone; 1x1 without hires fix."""
    if request.mode == "img2img" or not request.enable_hr:
        return 1, 1
    width, height = request.firstphase_width or request.width, request.firstphase_height or request.height
    scaled = int(width * request.hr_scale), int(height * request.hr_scale)
    return max(scaled[0], request.hr_resize_x), max(scaled[1], request.hr_resize_y)
