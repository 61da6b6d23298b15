"""The script ``SD upscale``: enlarges a picture and redraws it tile by tile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.api import (
    ArgInfo,
    GeneratedImage,
    InvalidRequest,
    JobControl,
    JsonValue,
    Mode,
    Plan,
    Planned,
    Result,
    ScriptRuns,
    Services,
    check_size,
    cut_tiles,
    flatten,
    join_tiles,
    plan_tiles,
)
from latentd_scripts.arguments import UNUSED, Arguments, FormScript, control
from latentd_scripts.upscaler_choice import RESIZERS, find_upscaler, upscaler_files, upscaler_names

if TYPE_CHECKING:
    from PIL.Image import Image


class SDUpscaleArgs(Arguments):
    """``script_args`` of ``SD upscale``; ``upscaler`` is a name or an index of the list of upscalers."""

    remark: JsonValue = UNUSED
    overlap: int = control(64, "Tile overlap", minimum=0, maximum=256, step=16, ge=0)
    upscaler: int | str = control("None", "Upscaler")
    scale_factor: float = control(2.0, "Scale Factor", minimum=1.0, maximum=4.0, step=0.05, gt=0, le=16)


class SDUpscale(FormScript[SDUpscaleArgs]):
    """Upscales, runs img2img on tiles of the request's size, and joins them."""

    title = "SD upscale"
    modes = ("img2img",)
    Args = SDUpscaleArgs
    note = (
        '<p style="margin-bottom:0.75em">Will upscale the image by the selected scale factor; '
        "use width and height sliders to set tile size</p>"
    )

    def __init__(self) -> None:
        self.services: Services | None = None

    def arg_info(self, mode: Mode) -> Sequence[ArgInfo]:
        """The rows, with the names of the server's upscalers."""
        rows = list(super().arg_info(mode))
        names = upscaler_names(self.services) if self.services else list(RESIZERS)
        rows[2] = replace(rows[2], choices=names)
        return rows

    def plan(self, plan: Plan, args: SDUpscaleArgs, services: Services) -> Planned[SDUpscaleArgs]:
        """Check the upscaler, whose name goes into the arguments, the tiles and the size of the result.

        :raises NotFound: no such upscaler.
        :raises InvalidRequest: the overlap is as large as a tile.
        :raises TooLarge: the enlarged picture, or its tiles together, are over the server's bounds.
        """
        name = find_upscaler(args.upscaler, services)
        if args.overlap >= min(plan.width, plan.height):
            raise InvalidRequest(f"tiles of {plan.width}x{plan.height} cannot overlap by {args.overlap}")
        factor = 1 if name == "None" else args.scale_factor
        width, height = (int(side * factor) for side in plan.request.init_images[0].size)
        check_size(width, height, services.settings)
        tiles = _tiles_along(width, plan.width, args.overlap) * _tiles_along(height, plan.height, args.overlap)
        runs = ScriptRuns(services, plan, None)
        runs.check_total([runs.plan_for(replace(runs.request, n_iter=1, batch_size=1))], tiles * plan.n_iter)
        return Planned(args=args.model_copy(update={"upscaler": name}))

    def model_files(self, services: Services, plan: Plan, args: SDUpscaleArgs) -> Sequence[Path]:
        """The upscaler's."""
        return upscaler_files(args.upscaler, services)

    def run(self, services: Services, plan: Plan, args: SDUpscaleArgs, control: JobControl) -> Result:
        """The redrawn pictures, one for each batch."""
        runs = ScriptRuns(services, plan, control)
        name = find_upscaler(args.upscaler, services)
        image = flatten(plan.request.init_images[0], plan.options["img2img_background_color"])
        if name != "None":
            image = runs.upscale(name, image, args.scale_factor)
        notes = {"SD upscale overlap": args.overlap, "SD upscale upscaler": name}
        tiles = _Tiles(runs, image, args.overlap, notes)
        images = [tiles.redraw(number) for number in range(plan.n_iter) if not runs.interrupted]
        return runs.reply(
            images, tiles.last, seed=runs.request.seed, subseed=-1, infotexts=tiles.first.get("infotexts", [])[:1]
        )


def _tiles_along(length: int, side: int, overlap: int) -> int:
    """The number of tiles that :func:`plan_tiles` would place along one side."""
    return max(math.ceil((length - overlap) / (side - overlap)), 1)


class _Tiles:
    """The tiles of one picture, and the batches in which they are redrawn."""

    def __init__(self, runs: ScriptRuns, image: Image, overlap: int, notes: dict[str, JsonValue]) -> None:
        self.runs = runs
        self.notes = notes
        self.size = (runs.plan.width, runs.plan.height)
        self.tiling = plan_tiles(image.size, self.size, overlap)
        self.rows = cut_tiles(image, self.tiling)
        self.work = [tile for row in self.rows for tile in row]
        self.batch_size = runs.plan.request.batch_size
        self.batches = math.ceil(len(self.work) / self.batch_size)
        self.total = self.batches * runs.plan.n_iter
        self.first: dict[str, JsonValue] = {}
        self.last: dict[str, JsonValue] = {}
        runs.start(self.total)

    def redraw(self, number: int) -> GeneratedImage:
        """The picture with all tiles redrawn; seeds begin with the request's plus ``number``."""
        from PIL import Image

        start = seed = self.runs.request.seed + number
        done: list[Image.Image] = []
        for batch in range(self.batches):
            if self.runs.interrupted:
                break
            tiles = tuple(self.work[batch * self.batch_size : (batch + 1) * self.batch_size])
            request = replace(self.runs.request, seed=seed, n_iter=1, init_images=tiles)
            plan = self.runs.plan_for(request, grid=False, save=False)
            label = f"Batch {batch + 1 + number * self.batches} out of {self.total}"
            result = self.runs.generate(plan.with_changes(infotext={**self.notes, **plan.infotext}), label)
            self.last = dict(result.info)
            self.first = self.first or self.last
            seed += 1
            done += [picture.image for picture in result.images]
        done += [Image.new("RGB", self.size)] * (len(self.work) - len(done))
        across = len(self.tiling.columns)
        joined = join_tiles([done[i * across : (i + 1) * across] for i in range(len(self.rows))], self.tiling)
        text = self.first.get("infotexts", [None])[0]
        self.runs.save(joined, text, {**self.first, "seed": start})
        return self.runs.picture(joined)
