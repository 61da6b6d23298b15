"""The script ``Ultimate SD upscale``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.api import (
    ArgInfo,
    Box,
    GeneratedImage,
    GenerationRequest,
    InvalidRequest,
    JobControl,
    JsonValue,
    Mode,
    Plan,
    Planned,
    Result,
    ScriptRuns,
    Services,
    check_images,
    check_size,
    flatten,
)
from latentd_scripts.arguments import FormScript
from latentd_scripts.ultimate.arguments import SeamsFix, TargetSize, UltimateUpscaleArgs
from latentd_scripts.ultimate.patches import Grid, Patch, Size, enlargements
from latentd_scripts.upscaler_choice import RESIZERS, find_upscaler, upscaler_files, upscaler_names

if TYPE_CHECKING:
    from PIL.Image import Image

_MULTIPLE = 64
_ORIGINAL = 1  # the masked content: what is there
_PREVIEW = 1024  # pixels of the longest side
_LEAST_TILE = 8


class UltimateUpscale(FormScript[UltimateUpscaleArgs]):
    """Enlarges the first init picture and redraws it in tiles, each with its surroundings in view."""

    title = "Ultimate SD upscale"
    modes = ("img2img",)
    Args = UltimateUpscaleArgs
    note = '<p style="margin-bottom:0.75em">Will upscale the image depending on the selected target size type</p>'

    def __init__(self) -> None:
        self.services: Services | None = None

    def arg_info(self, mode: Mode) -> Sequence[ArgInfo]:
        """The rows, with the names of the server's upscalers."""
        rows = list(super().arg_info(mode))
        place = list(UltimateUpscaleArgs.model_fields).index("upscaler_index")
        names = upscaler_names(self.services) if self.services else list(RESIZERS)
        rows[place] = replace(rows[place], choices=names)
        return rows

    def plan(self, plan: Plan, args: UltimateUpscaleArgs, services: Services) -> Planned[UltimateUpscaleArgs]:
        """Check the upscaler, whose name goes into the arguments, the size, and the tiles.

        :raises NotFound: no such upscaler. :raises InvalidRequest: a tile or a band is too small.
        :raises TooLarge: the result, a tile or all tiles together are over the server's bounds.
        """
        name = find_upscaler(args.upscaler_index, services)
        if (
            max(args.tile_width, args.tile_height) < _LEAST_TILE
            or 0 < min(args.tile_width, args.tile_height) < _LEAST_TILE
        ):
            raise InvalidRequest(f"tiles of {args.tile_width}x{args.tile_height} are too small")
        if args.seams_fix_type == SeamsFix.BAND_PASS and args.seams_fix_width < 2:
            raise InvalidRequest("seams_fix_width must be at least 2")
        size = _target(plan, args)
        check_size(*size, services.settings)
        grid = Grid(size, args)
        check_images(grid.count(), services.settings)
        runs = ScriptRuns(services, plan, None)
        work = [(patch, _strength(plan)) for patch in grid.tiles()]
        work += [(patch, args.seams_fix_denoise) for patch in grid.seams()]
        one_of_each = {(patch.working, strength): patch for patch, strength in work}
        plans = {key: runs.plan_for(_redrawing(runs.request, patch, key[1])) for key, patch in one_of_each.items()}
        runs.check_total([plans[patch.working, strength] for patch, strength in work])
        return Planned(
            plan=plan.with_changes(warnings=(*plan.warnings, *_told(plan))),
            args=args.model_copy(update={"upscaler_index": name}),
        )

    def model_files(self, services: Services, plan: Plan, args: UltimateUpscaleArgs) -> Sequence[Path]:
        """The upscaler's."""
        return upscaler_files(args.upscaler_index, services)

    def run(self, services: Services, plan: Plan, args: UltimateUpscaleArgs, control: JobControl) -> Result:
        """The enlarged picture with its tiles redrawn, and then the one with its seams redrawn, if they are."""
        runs = ScriptRuns(services, plan, control)
        name, size = find_upscaler(args.upscaler_index, services), _target(plan, args)
        grid = Grid(size, args)
        notes = {
            "upscaler": name, "tile_width": grid.tile[0], "tile_height": grid.tile[1],
            "mask_blur": args.mask_blur, "padding": args.padding,
        }  # fmt: skip
        runs.start(grid.count())
        image = flatten(plan.request.init_images[0], plan.options["img2img_background_color"])
        canvas = _Canvas(runs, _enlarged(runs, name, image, size), notes, grid.count())
        canvas.redraw(grid.tiles(), _strength(plan))
        canvas.finish(save=args.save_upscaled_image)
        if args.seams_fix_type != SeamsFix.NONE:
            canvas.redraw(grid.seams(), args.seams_fix_denoise)
            canvas.finish(save=args.save_seams_fix_image)
        return canvas.reply()


class _Canvas:
    """The picture while its parts are redrawn."""

    def __init__(self, runs: ScriptRuns, image: Image, notes: dict[str, JsonValue], total: int) -> None:
        self.runs = runs
        self.image = image
        self.total = total
        self.notes = {f"Ultimate SD upscale {key}": value for key, value in notes.items()}
        self.info: dict[str, JsonValue] = {}
        self.infotext = ""
        self.done: list[GeneratedImage] = []
        # An always-on script may look at the whole picture and its mask, as ControlNet does to cut its own pictures.
        self.whole = bool(runs.request.alwayson_scripts)

    def redraw(self, patches: Sequence[Patch], strength: float) -> None:
        """Redraw the parts one after another, until an interrupt."""
        for patch in patches:
            if self.runs.interrupted:
                break
            self._redraw(patch, strength)

    def _redraw(self, patch: Patch, strength: float) -> None:
        """Redraw one part. Only the region that takes part is handed on, for the rest would stay what it is."""
        size = self.image.size
        whole = Box(0, 0, *size)
        region = whole if self.whole else patch.region(size) or whole
        request = replace(
            _redrawing(self.runs.request, patch, strength),
            init_images=(self.image.crop(region.as_tuple()),),
            mask=patch.mask(size, region),
        )
        plan = self.runs.plan_for(request, grid=False, save=False)
        # The size is that of the whole picture, and the mask is blurred already.
        own = {"Size": f"{size[0]}x{size[1]}", "Mask blur": patch.blur or None}
        notes = {**self.notes, **plan.infotext, **own}
        label = f"Tile {self.runs.control.progress.job_no + 1} out of {self.total}"
        result = self.runs.generate(plan.with_changes(infotext=notes), label)
        if result.images:
            self.image.paste(result.images[0].image, (region.left, region.top))
        self.info = {**result.info, "width": size[0], "height": size[1]}
        self.info["extra_generation_params"].pop("Size", None)
        self.infotext = self.info["infotexts"][0]
        self._show()

    def _show(self) -> None:
        """Show the whole picture as the preview, until that of the next part comes."""
        if self.runs.plan.options["live_previews_enable"]:
            preview = self.image.copy()
            preview.thumbnail((_PREVIEW, _PREVIEW))
            self.runs.control.set_preview(preview)

    def finish(self, *, save: bool) -> None:
        """Add the picture as it is to the reply."""
        if not self.info:
            self.info = _document(self.runs, self.image.size, self.notes)
        if save:
            self.runs.save(self.image, self.infotext or None, self.info)
        self.done.append(self.runs.picture(self.image.copy(), self.infotext or None))

    def reply(self) -> Result:
        """The pictures, with the document of the last part that was drawn."""
        return self.runs.reply(
            self.done,
            self.info,
            seed=self.runs.request.seed,
            infotexts=[picture.infotext or "" for picture in self.done],
        )


def _strength(plan: Plan) -> float:
    return 0.75 if plan.denoising_strength is None else plan.denoising_strength


def _target(plan: Plan, args: UltimateUpscaleArgs) -> Size:
    """Width and height of the result."""
    if args.target_size_type == TargetSize.CUSTOM:
        return args.custom_width, args.custom_height
    if args.target_size_type == TargetSize.SCALE:
        width, height = (math.ceil(side * args.custom_scale / _MULTIPLE) for side in plan.request.init_images[0].size)
        return width * _MULTIPLE, height * _MULTIPLE
    return plan.width, plan.height


def _enlarged(runs: ScriptRuns, name: str, image: Image, size: Size) -> Image:
    """``image`` at ``size``, by the upscaler in steps of 4, 3 and 2 and then by Lanczos."""
    from PIL.Image import Resampling

    if name != "None":
        for factor in enlargements(math.ceil(max(size) / max(image.size))):
            image = runs.upscale(name, image, factor)
    return image.resize(size, Resampling.LANCZOS)


def _redrawing(request: GenerationRequest, patch: Patch, strength: float) -> GenerationRequest:
    """The request for a part of the picture, still without the picture and its mask."""
    return replace(
        request,
        n_iter=1,
        batch_size=1,
        init_images=request.init_images[:1],
        width=patch.working[0],
        height=patch.working[1],
        denoising_strength=strength,
        mask=None,
        latent_mask=None,
        mask_blur=0,
        inpaint_full_res=True,
        inpaint_full_res_padding=patch.padding,
        inpainting_fill=_ORIGINAL,
        inpainting_mask_invert=0,
    )


def _told(plan: Plan) -> list[str]:
    """What of the request has no effect."""
    request = plan.request
    asked = {
        "mask": request.mask is not None,
        "n_iter and batch_size": len(plan.prompts) > 1,
        "init_images after the first": len(request.init_images) > 1,
    }
    return [f"Ultimate SD upscale: {what} has no effect" for what, given in asked.items() if given]


def _document(runs: ScriptRuns, size: Size, notes: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The document of a picture for which nothing was drawn."""
    plan, request = runs.plan, runs.request
    return {
        "prompt": plan.prompts[0],
        "all_prompts": [plan.prompts[0]],
        "negative_prompt": plan.negative_prompts[0],
        "all_negative_prompts": [plan.negative_prompts[0]],
        "seed": request.seed,
        "all_seeds": [request.seed],
        "subseed": request.subseed,
        "all_subseeds": [request.subseed],
        "subseed_strength": request.subseed_strength,
        "width": size[0],
        "height": size[1],
        "sampler_name": plan.sampler.label,
        "cfg_scale": plan.cfg_scale,
        "steps": plan.steps,
        "batch_size": 1,
        "restore_faces": plan.restore_faces,
        **dict.fromkeys(("sd_model_name", "sd_model_hash", "sd_vae_name", "sd_vae_hash")),
        "denoising_strength": plan.denoising_strength,
        "extra_generation_params": notes,
        "index_of_first_image": 0,
        "infotexts": [],
        "styles": list(plan.styles),
        "job_timestamp": runs.control.progress.job_timestamp,
        "clip_skip": int(plan.options["CLIP_stop_at_last_layers"]),
    }
