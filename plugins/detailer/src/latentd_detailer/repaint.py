"""Detailing one picture on the worker: each unit finds its regions, which are repainted one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentd.api import Detection, DetectorSpec, Generation, WorkerContext, draw_within, save_intermediate
from latentd_detailer import prompts
from latentd_detailer.arguments import DetailerArgs, Numbered
from latentd_detailer.finding import detect
from latentd_detailer.masks import Region, chosen, regions, touches
from latentd_detailer.requests import Task, repaint_request, repaint_size, repaint_strength

if TYPE_CHECKING:
    from PIL.Image import Image

#: The most regions that a unit repaints in one picture; each is a generation of its own.
MOST_REGIONS = 64
_COLOURS = ("#ff3838", "#48f90a", "#1a9334", "#00d4bb", "#344593", "#cb38ff")


def detail(generation: Generation, args: DetailerArgs, image: Image, index: int, inpainted: Image | None) -> Image:
    """``image`` (RGB), picture ``index`` of the batch, with the regions of all units repainted.

    :param inpainted: the mask of the job's own inpainting; regions that do not touch it are left alone.
    """
    picture = _Picture(generation, args, index, inpainted)
    before = image
    for numbered in args.units:
        if generation.control.stop_requested() is not None:
            break
        image = picture.with_unit(numbered, image)
    if image is not before and not args.skip_img2img and generation.options["ad_save_images_before"]:
        save_intermediate(generation, before, index, suffix="-ad-before")
    return image


class _Picture:
    """One picture of the job with its prompt and seeds."""

    def __init__(self, generation: Generation, args: DetailerArgs, index: int, inpainted: Image | None) -> None:
        plan = generation.plan
        self.generation, self.index, self.inpainted = generation, index, inpainted
        self.number = generation.batch * plan.batch_size + index
        self.steps, *size = args.asked or (plan.steps, plan.width, plan.height)
        self.asked = (size[0], size[1])

    def with_unit(self, numbered: Numbered, image: Image) -> Image:
        """``image`` after one unit."""
        generation, unit = self.generation, numbered.unit
        detector = numbered.detector
        assert detector is not None, "planning finds the detectors"
        found = detect(detector, image, unit, _context(generation))
        found = chosen(found, unit, image.size, str(generation.options["ad_bbox_sortby"]))
        made = self._touched(regions(found, unit, image.size))
        if not made:
            self._tell_nothing(numbered, detector)
            return image
        if len(made) > MOST_REGIONS:
            generation.warn(f"ADetailer: only the first {MOST_REGIONS} of {len(made)} regions are repainted")
        preview = drawn(image, found)
        generation.control.set_preview(preview)
        if generation.options["ad_save_previews"]:
            end = f"-{numbered.number + 1}" if numbered.number else ""
            save_intermediate(generation, preview, self.index, suffix=f"-ad-preview{end}")
        return self._repainted(numbered, image, made[:MOST_REGIONS])

    def _touched(self, made: list[Region]) -> list[Region]:
        if self.inpainted is None:
            return made
        return [region for region in made if touches(region.mask, self.inpainted)]

    def _repainted(self, numbered: Numbered, image: Image, made: Sequence[Region]) -> Image:
        """``image`` with each of the regions repainted, as far as the job is not stopped."""
        generation, unit, plan = self.generation, numbered.unit, self.generation.plan
        own = prompts.parts(unit.ad_prompt, plan.prompts[self.number])
        negative = prompts.parts(unit.ad_negative_prompt, plan.negative_prompts[self.number])
        for number, region in enumerate(made):
            prompt = prompts.part(own, number)
            if prompts.is_skipped(prompt):
                continue
            if generation.control.stop_requested() is not None:
                break
            step = 0 if generation.options["ad_same_seed_for_each_tab"] else number
            match = generation.options["ad_match_inpaint_bbox_size"]
            power = float(generation.options["ad_dynamic_denoise_power"])
            task = Task(
                image=image,
                mask=region.mask,
                prompt=prompt,
                negative_prompt=prompts.part(negative, number),
                seed=plan.seeds[self.number] + step,
                subseed=plan.subseeds[self.number] + step,
                size=repaint_size(unit, self.asked, image.size, region.box, match),
                strength=repaint_strength(unit, region.box, region.mask.size, power),
            )
            generation.control.progress.job = f"ADetailer: region {number + 1} out of {len(made)}"
            result = draw_within(generation, repaint_request(plan, unit, self.steps, task, generation.services))
            if not result.images:
                break
            image = result.images[0].image.convert("RGB")
        return image

    def _tell_nothing(self, numbered: Numbered, detector: DetectorSpec) -> None:
        of_classes = f" of {', '.join(sorted(numbered.unit.classes))}" if numbered.unit.classes else ""
        self.generation.warn(
            f"ADetailer: {detector.name}{of_classes} has found nothing to repaint in picture {self.number + 1}"
        )


def drawn(image: Image, found: Sequence[Detection]) -> Image:
    """``image`` with the boxes of what was found, and the score of each."""
    from PIL import ImageDraw

    shown = image.copy()
    pen = ImageDraw.Draw(shown)
    width = max(round(sum(image.size) / 2 * 0.003), 2)
    for number, one in enumerate(found):
        colour = _COLOURS[number % len(_COLOURS)]
        pen.rectangle(one.box, outline=colour, width=width)
        pen.text((one.box[0] + width, one.box[1] + width), f"{one.label} {one.score:.2f}".strip(), fill=colour)
    return shown


def _context(generation: Generation) -> WorkerContext:
    return WorkerContext(
        options=generation.options,
        device=str(generation.services.models.policy.device),
        check=generation.control.check,
        services=generation.services,
    )
