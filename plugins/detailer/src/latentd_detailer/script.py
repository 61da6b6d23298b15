"""The always-on script ``ADetailer``: reads the units, checks them in planning, and details every finished picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from latentd.api import (
    ArgInfo,
    Generation,
    GenerationRequest,
    JsonValue,
    LatentdError,
    Mode,
    Plan,
    Planned,
    RawArgs,
    Script,
    Services,
    flatten,
    plan_within,
)
from latentd_detailer import infotext
from latentd_detailer.arguments import DetailerArgs, DetailerBody, Numbered, read_arguments, unread
from latentd_detailer.finding import find
from latentd_detailer.requests import Task, repaint_request, repaint_size
from latentd_detailer.unit import Unit

if TYPE_CHECKING:
    from PIL.Image import Image

#: What is left of img2img where its result is not used: the original's numbers.
_SKIPPED_STEPS, _SKIPPED_SIDE = 1, 128


class Detailer(Script[DetailerArgs]):
    """Finds faces and other things in every picture and repaints each of them in detail."""

    title = "ADetailer"
    aliases = ("After Detailer",)
    alwayson = True
    Args = DetailerBody

    def __init__(self) -> None:
        self.services: Services | None = None

    def arg_info(self, mode: Mode) -> Sequence[ArgInfo]:
        """The two switches and the units, as in the original."""
        count = int(self.services.options["ad_max_models"]) if self.services else 4
        unit = Unit.model_validate({}).model_dump()
        switches = [ArgInfo(label="Enable ADetailer", value=False), ArgInfo(label="Skip img2img", value=False)]
        return [*switches, *(ArgInfo(label="", value=unit) for _ in range(count))]

    def parse_args(self, args: RawArgs, request: GenerationRequest) -> DetailerArgs | None:
        """The units that act; None if there are none.

        :raises InvalidRequest: there are too many.
        """
        return read_arguments(args)

    def ignored_args(self, args: RawArgs, request: GenerationRequest) -> Sequence[str]:
        """What is neither switch nor unit, and unknown keys of units."""
        return unread(args)

    def from_infotext(self, entries: Mapping[str, JsonValue], args: JsonValue, mode: Mode) -> list[JsonValue] | None:
        """The units that :meth:`before_process` has written, if the request gives none."""
        told = infotext.read(entries) if args is None else []
        return [True, False, *told] if told else None

    def plan(self, plan: Plan, args: DetailerArgs, services: Services) -> Planned[DetailerArgs]:
        """The arguments with the detectors found, and the plan, which does nearly nothing where img2img is skipped.

        :raises NotConfigured: a detector is missing. :raises LatentdError: a region could not be repainted as asked.
        """
        warnings: list[str] = []
        if (reason := _unfit(plan, args)) is not None:
            return Planned(
                plan=plan.with_changes(warnings=(*plan.warnings, f"ADetailer does nothing: {reason}")),
                args=replace(args, units=()),
            )
        units = tuple(_planned(numbered, plan, services, warnings) for numbered in args.units)
        args = replace(args, units=units, skip_img2img=args.skip_img2img and plan.is_img2img)
        plan = plan.with_changes(warnings=(*plan.warnings, *warnings))
        if args.skip_img2img:
            args = replace(args, asked=(plan.steps, plan.width, plan.height))
            plan = plan.with_changes(steps=_SKIPPED_STEPS, width=_SKIPPED_SIDE, height=_SKIPPED_SIDE)
        return Planned(plan=plan, args=args)

    def before_process(self, generation: Generation, args: DetailerArgs) -> None:
        """Note the units in the infotext, and in place of the skipped img2img's numbers those of the request."""
        if args.units:
            generation.infotext.update(infotext.written(args))
        if args.asked is not None:
            steps, width, height = args.asked
            generation.infotext.update({"Steps": steps, "Size": f"{width}x{height}"})

    def postprocess_image(self, generation: Generation, args: DetailerArgs, image: Image, index: int) -> Image:
        """Picture ``index`` of the batch in detail."""
        from latentd_detailer.repaint import detail

        if not args.units:
            return image
        given = generation.request.init_images
        if args.skip_img2img:
            image = flatten(given[index if index < len(given) else 0], generation.options["img2img_background_color"])
        return detail(generation, args, image.convert("RGB"), index, _inpainted(generation, args))


def _unfit(plan: Plan, args: DetailerArgs) -> str | None:
    """Why the request's own inpainting leaves nothing to detail, or None."""
    mask = plan.request.mask
    if not plan.is_img2img or mask is None:
        return None
    if args.skip_img2img:
        return "it cannot skip img2img where that inpaints"
    low, high = mask.convert("L").getextrema()
    blank = low == 255 if plan.request.inpainting_mask_invert else high == 0
    return "the mask of img2img covers nothing" if blank else None


def _planned(numbered: Numbered, plan: Plan, services: Services, warnings: list[str]) -> Numbered:
    """The unit with its detector, after a trial of planning a repaint."""
    from PIL import Image

    unit, size = numbered.unit, (plan.width, plan.height)
    try:
        detector, warning = find(unit.ad_model, services, plan.options)
        task = Task(
            image=Image.new("RGB", size),
            mask=Image.new("L", size, 255),
            prompt="",
            negative_prompt="",
            seed=plan.seeds[0],
            subseed=plan.subseeds[0],
            size=repaint_size(unit, size, size, None, None),
            strength=unit.ad_denoising_strength,
        )
        planned = plan_within(plan, repaint_request(plan, unit, plan.steps, task, services), services)
    except LatentdError as error:
        error.hint = "; ".join(filter(None, (f"in unit {numbered.number + 1} of ADetailer", error.hint)))
        raise
    warnings += [text for text in (warning, *planned.warnings) if text is not None and text not in plan.warnings]
    return replace(numbered, detector=detector)


def _inpainted(generation: Generation, args: DetailerArgs) -> Image | None:
    """The mask, as large as the picture, that regions must touch: that of img2img over the whole picture."""
    start = generation.img2img
    if start is None or args.skip_img2img or generation.request.inpaint_full_res:
        return None
    return start.init.mask
