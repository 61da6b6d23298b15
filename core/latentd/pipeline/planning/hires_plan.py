"""Planning hires fix: sizes, upscaler, sampler and prompts of the second pass (rules: a1111-hires)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.errors import NotFound, near_matches
from latentd.generations import LATENT_DOWNSCALE, HiresPlan, SamplerChoice
from latentd.images.resize import LATENT_MODES
from latentd.pipeline.planning.checkpoint_choice import find_checkpoint
from latentd.pipeline.planning.sampler_choice import (
    choose_sampler,
    sampler_catalogue,
    schedule_text,
    scheduler_in_force,
)
from latentd.plugins.catalogue import package_hint
from latentd.prompts.comments import strip_comments
from latentd.prompts.styles import apply_styles
from latentd.types import GenerationRequest

if TYPE_CHECKING:
    from latentd.pipeline.needs import PlanningServices
    from latentd.types import JsonValue, OptionValues

_SAME = (None, "", "Use same checkpoint", "Use same sampler", "Use same scheduler")
_MOST_SIDE = 16384


def plan_hires(
    request: GenerationRequest,
    services: PlanningServices,
    options: OptionValues,
    sampler: SamplerChoice,
    first_size: tuple[int, int],
    count: int,
    infotext: dict[str, JsonValue],
    warnings: list[str],
) -> HiresPlan | None:
    """The second pass, or None; adds its infotext entries in AUTOMATIC1111's order, and warnings.

    :raises NotFound: an unknown upscaler, sampler or checkpoint.
    """
    if request.mode != "txt2img" or not request.enable_hr:
        return None
    strength = 0.75 if request.denoising_strength is None else request.denoising_strength
    infotext["Denoising strength"] = strength
    checkpoint = None
    if request.hr_checkpoint_name not in _SAME:
        found = find_checkpoint(services, str(request.hr_checkpoint_name))
        checkpoint, infotext["Hires checkpoint"] = found.title, found.short_title
    chosen = _sampler(request, services, sampler, warnings)
    if chosen.label != sampler.label:
        infotext["Hires sampler"] = chosen.label
    catalogue = sampler_catalogue(services)
    if scheduler_in_force(chosen, options, catalogue) != scheduler_in_force(sampler, options, catalogue):
        infotext["Hires schedule type"] = schedule_text(chosen, options, catalogue)
    prompts, negatives = _prompts(request, services, options, count, infotext)
    width, height, truncate = _target(request, options, first_size, infotext)
    if request.hr_second_pass_steps:
        infotext["Hires steps"] = request.hr_second_pass_steps
    upscaler = _upscaler(request, services)
    if request.hr_upscaler is not None:
        infotext["Hires upscaler"] = request.hr_upscaler
    return HiresPlan(
        width=width,
        height=height,
        truncate_x=truncate[0],
        truncate_y=truncate[1],
        latent_mode=LATENT_MODES["Latent"] if request.hr_upscaler is None else LATENT_MODES.get(request.hr_upscaler),
        upscaler=upscaler,
        sampler=chosen,
        steps=request.hr_second_pass_steps or request.steps,
        denoising_strength=max(strength, 0.0),
        checkpoint=checkpoint,
        prompts=prompts,
        negative_prompts=negatives,
    )


def _sampler(
    request: GenerationRequest, services: PlanningServices, first: SamplerChoice, warnings: list[str]
) -> SamplerChoice:
    """The second pass's sampler; without a schedule for it, it has the first pass's schedule (1.9 and later)."""
    same_sampler, same_schedule = request.hr_sampler_name in _SAME, request.hr_scheduler in _SAME
    if same_sampler and same_schedule:
        return first
    name = first.label if same_sampler else str(request.hr_sampler_name)
    if not same_schedule:
        return choose_sampler(services, name, request.hr_scheduler, warnings)
    plain = choose_sampler(services, name, None, warnings)
    if plain.scheduler is not None or plain.spec.scheduler is not None or not request.scheduler:
        return plain
    return choose_sampler(services, name, request.scheduler, [])


def _upscaler(request: GenerationRequest, services: PlanningServices) -> str | None:
    name = request.hr_upscaler
    if name is None or name in LATENT_MODES:
        return None
    upscalers = services.registry.upscalers
    if name not in list(upscalers):
        hint = package_hint("upscaler", name) or near_matches(name, [*LATENT_MODES, *upscalers])
        raise NotFound(f"could not find upscaler named {name}", hint=hint)
    upscalers[name].check()
    return name


def _prompts(
    request: GenerationRequest,
    services: PlanningServices,
    options: OptionValues,
    count: int,
    infotext: dict[str, JsonValue],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The second pass's prompts; comments stay in them, as in AUTOMATIC1111, so they may differ from the first's."""
    texts = []
    for key, own, first in (
        ("Hires prompt", request.hr_prompt, request.prompt),
        ("Hires negative prompt", request.hr_negative_prompt, request.negative_prompt),
    ):
        text = own or first
        commented = options["enable_prompt_comments"] and isinstance(text, str) and strip_comments(text) != text
        if own and own != first:
            infotext[key] = own
        elif commented:
            infotext[key] = text
        texts.append([text] * count if isinstance(text, str) else list(text))
    styles = services.styles.by_name
    pairs = [apply_styles(p, n, request.styles, styles) for p, n in zip(*texts, strict=True)]
    return tuple(p for p, _ in pairs), tuple(n for _, n in pairs)


def _target(
    request: GenerationRequest, options: OptionValues, size: tuple[int, int], infotext: dict[str, JsonValue]
) -> tuple[int, int, tuple[int, int]]:
    """(width, height, truncation in cells): the size to which pictures are enlarged, and how much is then cut."""
    width, height = size
    resize_x, resize_y = request.hr_resize_x, request.hr_resize_y
    if options["use_old_hires_fix_width_height"]:
        resize_x, resize_y = request.width, request.height
    if resize_x == 0 and resize_y == 0:
        infotext["Hires upscale"] = request.hr_scale
        target = int(width * request.hr_scale), int(height * request.hr_scale)
        return *_checked(*target), (0, 0)
    infotext["Hires resize"] = f"{resize_x}x{resize_y}"
    if resize_y == 0:
        return *_checked(resize_x, resize_x * height // max(width, 1)), (0, 0)
    if resize_x == 0:
        return *_checked(resize_y * width // max(height, 1), resize_y), (0, 0)
    if width / height < resize_x / resize_y:
        target = resize_x, resize_x * height // width
    else:
        target = resize_y * width // height, resize_y
    cut = (target[0] - resize_x) // LATENT_DOWNSCALE, (target[1] - resize_y) // LATENT_DOWNSCALE
    return *_checked(*target), cut


def _checked(width: int, height: int) -> tuple[int, int]:
    from latentd.errors import InvalidRequest

    if not (LATENT_DOWNSCALE <= width <= _MOST_SIDE and LATENT_DOWNSCALE <= height <= _MOST_SIDE):
        raise InvalidRequest(f"hires fix would make a picture of {width}x{height}")
    return width, height
