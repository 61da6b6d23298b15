"""The script ``X/Y/Z plot``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from latentd.api import (
    ArgInfo,
    GeneratedImage,
    GenerationRequest,
    JobControl,
    Label,
    Mode,
    Plan,
    RawArgs,
    Result,
    ScriptRuns,
    Services,
    TooLarge,
    annotate_grid,
    make_grid,
)
from latentd_scripts.arguments import FormScript
from latentd_scripts.legends import legend_style
from latentd_scripts.xyz.arguments import XYZArgs, read_arguments
from latentd_scripts.xyz.axes import axes_of
from latentd_scripts.xyz.cells import Cells, read_axes

_MEGAPIXEL = 1_000_000
_MOST_PLANNED = 64


class XYZPlot(FormScript[XYZArgs]):
    """A generation for each combination of values, and grids of them."""

    title = "X/Y/Z plot"
    Args = XYZArgs

    def arg_info(self, mode: Mode) -> Sequence[ArgInfo]:
        """The rows; types show labels, which a list of arguments names by index."""
        labels = [axis.label for axis in axes_of(mode)]
        rows = []
        for name, row in zip(XYZArgs.model_fields, super().arg_info(mode), strict=True):
            if name.endswith("_type"):
                row = replace(row, value=labels[row.value], choices=labels)
            elif name.endswith("_dropdown"):
                row = replace(row, value=None, choices=[])
            rows.append(row)
        return rows

    def parse_args(self, args: RawArgs, request: GenerationRequest) -> XYZArgs:
        """The arguments of 1.6 and later, or of early 2023.

        :raises InvalidRequest: a list of another length than 18 or 11.
        """
        return read_arguments(args, self.title)

    def plan(self, plan: Plan, args: XYZArgs, services: Services) -> None:
        """Check the axes, their values, and the size of the grid.

        :raises LatentdError: an axis or a value is invalid, or the grid is too large.
        """
        axes = read_axes(args, plan.request.mode, services)
        count = len(axes[0]) * len(axes[1]) * len(axes[2])
        megapixels, limit = round(count * plan.width * plan.height / _MEGAPIXEL), plan.options["img_max_size_mp"]
        if megapixels >= limit:
            raise TooLarge(
                f"Error: Resulting grid would be too large ({megapixels} MPixels) "
                f"(max configured size is {limit} MPixels)",
                hint="option img_max_size_mp",
            )
        runs = ScriptRuns(services, plan, None)
        cells = Cells(runs, args, axes)
        plans = [runs.plan_for(cells.request(place)) for place in itertools.islice(cells.order(), _MOST_PLANNED)]
        runs.check_total(plans, math.ceil(count / len(plans)))

    def run(self, services: Services, plan: Plan, args: XYZArgs, control: JobControl) -> Result:
        """The grids and the cells, as far as they were asked for."""
        runs = ScriptRuns(services, plan, control)
        cells = Cells(runs, args, read_axes(args, plan.request.mode, services))
        cells.run()
        if not any(result.images for result in cells.results.values()):
            empty = next(iter(cells.results.values()), None)
            return empty if empty is not None else runs.reply([], {})
        return _Sheet(cells).reply()


class _Sheet:
    """The grids of computed cells."""

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self.runs, self.args = cells.runs, cells.args
        self.first = next(iter(cells.results.values()))
        shown = next(image for place in cells.order() if (image := cells.first_of(place)) is not None)
        self.empty = GeneratedImage(image=Image.new(shown.image.mode, shown.image.size))
        self.style = legend_style(self.runs.plan.options)

    def reply(self) -> Result:
        """The grid of grids, the grids, and the cells, as far as they were asked for."""
        cells, args = self.cells, self.args
        lone = [cells.first_of(place) or self.empty for place in self._places()]
        subgrids = [self._subgrid(z) for z in range(len(cells.z))]
        texts = [self._grid_text(z) for z in range(len(cells.z))]
        main, main_text = self._main_grid(subgrids), self._grid_text(0, whole=True)
        self._save(main, main_text, subgrids, texts)
        images = [self.runs.picture(main, main_text, grid=True)]
        if args.include_sub_grids:
            images += [self.runs.picture(g, t, grid=True) for g, t in zip(subgrids, texts, strict=True)]
        if args.include_lone_images:
            images += lone
        return self.runs.reply(images, self.first.info, **self._document(main_text, texts))

    def _places(self, z: int | None = None) -> list[tuple[int, int, int]]:
        places = sorted(self.cells.order(), key=self.cells.number)
        return [place for place in places if z is None or place[2] == z]

    def _subgrid(self, z: int) -> Image.Image:
        cells = [(self.cells.first_of(place) or self.empty).image for place in self._places(z)]
        grid = make_grid(cells, len(self.cells.y))
        if not self.args.draw_legend:
            return grid
        columns = [[Label(text)] for text in self.cells.x.legends]
        rows = [[Label(text)] for text in self.cells.y.legends]
        return annotate_grid(grid, cells[0].size, columns, rows, margin=self.args.margin_size, style=self.style)

    def _main_grid(self, subgrids: Sequence[Image.Image]) -> Image.Image:
        grid = make_grid(subgrids, 1)
        if not self.args.draw_legend:
            return grid
        titles = [[Label(text)] for text in self.cells.z.legends]
        return annotate_grid(grid, subgrids[0].size, titles, [[Label("")]], style=self.style)

    def _grid_text(self, z: int, *, whole: bool = False) -> str | None:
        result = self.cells.results.get((0, 0, z))
        if result is None or not result.images:
            return None
        fixed = not self.args.no_fixed_seeds
        entries = {"Script": XYZPlot.title}
        entries |= self.cells.x.infotext("X", fixed_seeds=fixed) | self.cells.y.infotext("Y", fixed_seeds=fixed)
        if whole:
            entries |= self.cells.z.infotext("Z", fixed_seeds=fixed)
        return self.runs.annotated(result.info["infotexts"][0], entries)

    def _document(self, main_text: str | None, grid_texts: Sequence[str | None]) -> dict[str, object]:
        """The info of the first cell, with the lists of all cells, whether their pictures are in the reply or not."""
        infos = [r.info if (r := self.cells.results.get(place)) else None for place in self._places()]
        prompts, seeds = ([i and i[key] for i in infos] for key in ("prompt", "seed"))
        texts = [i and i["infotexts"][0] for i in infos]
        if self.args.include_sub_grids:
            starts = [n * len(self.cells.x) * len(self.cells.y) for n in range(len(self.cells.z))]
            prompts = [*(prompts[n] for n in starts), *prompts]
            seeds = [*(seeds[n] for n in starts), *seeds]
            texts = [*grid_texts, *texts]
        notes: dict[str, object] = {}
        for result in self.cells.results.values():
            notes |= result.info["extra_generation_params"]
        return {
            "all_prompts": prompts,
            "all_seeds": seeds,
            "extra_generation_params": notes,
            "index_of_first_image": 1,
            "infotexts": [main_text, *texts],
        }

    def _save(
        self, main: Image.Image, main_text: str | None, subgrids: Sequence[Image.Image], texts: Sequence[str | None]
    ) -> None:
        self.runs.save(main, main_text, self.first.info, basename="xyz_grid", grid=True)
        if self.args.include_sub_grids and len(subgrids) > 1:
            for grid, text in zip(subgrids, texts, strict=True):
                self.runs.save(grid, text, self.first.info, basename="xyz_grid", grid=True)
