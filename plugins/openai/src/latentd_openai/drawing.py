"""From the parameters of a request to those of a generation and of its answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from latentd.api import GenerationRequest, JsonValue, Services
from latentd_openai.errors import refusal
from latentd_openai.models import chosen, native_side
from latentd_openai.parameters import (
    CreateImageEditRequest,
    CreateImageRequest,
    CreateImageVariationRequest,
    EditParameters,
    Format,
    Parameters,
    PromptParameters,
    Quality,
)
from latentd_openai.pictures import repainted, size_like, size_of

if TYPE_CHECKING:
    from PIL.Image import Image

QualityLevel = Literal["low", "medium", "high", "xhigh", "max"]
_LEVELS: dict[Quality, QualityLevel] = {
    "auto": "medium",
    "standard": "medium",
    "hd": "high",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}
#: Steps by quality, as parts of option openai_steps.
_STEPS: dict[QualityLevel, float] = {"low": 0.5, "medium": 1.0, "high": 1.5, "xhigh": 2.0, "max": 3.0}
#: Denoising strength of an edit, of one with input_fidelity high, of a variation.
EDIT, FAITHFUL, VARIATION = 0.75, 0.45, 0.6
#: Denoising strength of what is transparent in the picture itself, where there is nothing to keep.
WHOLE = 1.0
#: AUTOMATIC1111's numbers: ``inpainting_fill`` (original, fill) and ``resize_mode`` (crop and resize).
_ORIGINAL, _FILL = 1, 0
_CROP = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is drawn, and the form of the answer.

    :param compression: quality of JPEG and WebP, 0 to 100.
    :param partial_images: how many previews a stream has for each picture; None if the answer is no stream.
    """

    request: GenerationRequest
    quality: QualityLevel
    format: Format
    compression: int
    as_url: bool
    partial_images: int | None = None

    @property
    def size(self) -> str:
        """The pictures' size as OpenAI writes it."""
        return f"{self.request.width}x{self.request.height}"


def generation(services: Services, given: CreateImageRequest) -> Order:
    """What ``/v1/images/generations`` draws.

    :raises HTTPException: it cannot be drawn as asked.
    """
    order = _order(services, given, given.prompt, size_of(given.size))
    if given.style is None:
        return order
    return _warned(order, f"style: {given.style!r} has no effect; say it in the prompt")


def edit(services: Services, given: CreateImageEditRequest | EditParameters, image: Image, mask: Image | None) -> Order:
    """What ``/v1/images/edits`` draws: img2img, or inpainting where something is transparent.

    :raises HTTPException: it cannot be drawn as asked.
    """
    order = _order(services, given, given.prompt, size_of(given.size) or size_like(image))
    area = repainted(image, mask)
    usual = FAITHFUL if given.input_fidelity == "high" else EDIT
    if area is not None and mask is None:
        usual = WHOLE
    fields: dict[str, JsonValue] = {} if area is None else {"mask": area, "inpaint_full_res": False}
    fields["inpainting_fill"] = _FILL if area is not None and mask is None else _ORIGINAL
    return _from(order, image, usual if given.strength is None else given.strength, fields)


def variation(services: Services, given: CreateImageVariationRequest, image: Image) -> Order:
    """What ``/v1/images/variations`` draws: img2img without words.

    :raises HTTPException: it cannot be drawn as asked.
    """
    order = _order(services, given, given.prompt or "", size_of(given.size) or size_like(image))
    return _from(order, image, VARIATION if given.strength is None else given.strength, {})


def _from(order: Order, image: Image, strength: float, fields: dict[str, JsonValue]) -> Order:
    request = replace(
        order.request,
        mode="img2img",
        init_images=(image,),
        denoising_strength=strength,
        resize_mode=_CROP,
        **fields,
    )
    return replace(order, request=request)


def _warned(order: Order, sentence: str) -> Order:
    return replace(order, request=replace(order.request, warnings=(*order.request.warnings, sentence)))


def _order(services: Services, given: Parameters, prompt: str, size: tuple[int, int] | None) -> Order:
    checkpoint, warnings = chosen(services, given.model)
    drawn = given if isinstance(given, PromptParameters) else None
    quality = _LEVELS[(drawn.quality if drawn else None) or "auto"]
    options = services.options
    steps = given.steps or max(1, round(int(options["openai_steps"]) * _STEPS[quality]))
    overrides: dict[str, JsonValue] = {"sd_model_checkpoint": checkpoint.title}
    partial = _partial_images(drawn)
    if partial:
        overrides |= {"live_previews_enable": True, "show_progress_every_n_steps": max(1, steps // (partial + 1))}
    if drawn and drawn.moderation:
        warnings.append(f"moderation: {drawn.moderation!r} has no effect; nothing is moderated here")
    width, height = size or (native_side(checkpoint),) * 2
    count = given.n or 1
    request = GenerationRequest(
        prompt=prompt,
        negative_prompt=str(options["openai_negative_prompt"])
        if given.negative_prompt is None
        else given.negative_prompt,
        seed=-1 if given.seed is None else given.seed,
        steps=steps,
        cfg_scale=7.0 if given.cfg_scale is None else given.cfg_scale,
        sampler_name=given.sampler or str(options["openai_sampler"]),
        scheduler=given.scheduler,
        width=width,
        height=height,
        # A preview shows one batch: in a stream each picture has its own.
        batch_size=count if partial is None else 1,
        n_iter=1 if partial is None else count,
        override_settings=overrides,
        warnings=tuple(warnings),
    )
    return Order(
        request=request,
        quality=quality,
        format=(drawn.output_format if drawn else None) or "png",
        compression=_compression(drawn),
        as_url=_as_url(given, streamed=partial is not None),
        partial_images=partial,
    )


def _partial_images(drawn: PromptParameters | None) -> int | None:
    """How many previews a stream has for each picture; None if the answer is no stream."""
    if drawn is None:
        return None
    if drawn.background == "transparent":
        raise refusal("background: 'transparent' is not supported here; use 'auto' or 'opaque'", param="background")
    if drawn.stream:
        return drawn.partial_images or 0
    if drawn.partial_images:
        raise refusal("'partial_images' needs 'stream': true", param="partial_images")
    return None


def _compression(drawn: PromptParameters | None) -> int:
    given = drawn.output_compression if drawn else None
    if given is None:
        return 100
    if given < 100 and drawn is not None and drawn.output_format in (None, "png"):
        raise refusal("output_compression below 100 needs output_format jpeg or webp", param="output_compression")
    return given


def _as_url(given: Parameters, *, streamed: bool) -> bool:
    if given.response_format == "url" and streamed:
        raise refusal("a stream has its pictures in base64; leave 'response_format' out", param="response_format")
    return given.response_format == "url"
