"""The script ``Poor man's outpainting``: a larger canvas whose new parts are inpainted tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from PIL import Image, ImageDraw

from latentd.api import (
    GenerationRequest,
    InvalidRequest,
    JobControl,
    JsonValue,
    Plan,
    RawArgs,
    Result,
    ScriptRuns,
    Services,
    check_size,
    cut_tiles,
    join_tiles,
    plan_tiles,
)
from latentd_scripts.arguments import Arguments, FormScript, control
from latentd_scripts.directions import DIRECTIONS, Direction, Growth, round_up

_FILLS = ("fill", "original", "latent noise", "latent nothing")
#: For AUTOMATIC1111's API any text is an unknown fill, which means "fill" and is not written into the infotext.
_UNNAMED = -1


class PoorMansOutpaintingArgs(Arguments):
    """``script_args`` of ``Poor man's outpainting``."""

    pixels: int = control(128, "Pixels to expand", minimum=8, maximum=256, step=8, ge=1, le=8192)
    mask_blur: int = control(4, "Mask blur", minimum=0, maximum=64, step=1, ge=0, le=256)
    inpainting_fill: Literal[0, 1, 2, 3, "fill", "original", "latent noise", "latent nothing"] = control(
        "fill", "Masked content", choices=_FILLS
    )
    directions: list[Direction] = control(list(DIRECTIONS), "Outpainting direction", choices=DIRECTIONS)


class PoorMansOutpainting(FormScript[PoorMansOutpaintingArgs]):
    """Inpainting of the border around the picture."""

    title = "Poor man's outpainting"
    modes = ("img2img",)
    Args = PoorMansOutpaintingArgs

    def ignored_args(self, args: RawArgs, request: GenerationRequest) -> Sequence[str]:
        """A sentence if ``inpainting_fill`` is a text, which always means "fill"."""
        told = list(super().ignored_args(args, request))
        parsed = self.parse_args(args, request)
        wanted = parsed.inpainting_fill if parsed is not None else None
        if isinstance(wanted, str) and wanted != _FILLS[0]:
            number = _FILLS.index(wanted)
            told.append(
                f"inpainting_fill {wanted!r}: a text means 'fill', as in AUTOMATIC1111; send the number {number}"
            )
        return told

    def plan(self, plan: Plan, args: PoorMansOutpaintingArgs, services: Services) -> None:
        """Check the tiles and the size of the result.

        :raises InvalidRequest: the tiles are too small for the overlap.
        :raises TooLarge: the result is over the server's bound.
        """
        if args.pixels >= min(plan.width, plan.height):
            raise InvalidRequest(
                f"tiles of {plan.width}x{plan.height} cannot overlap by {args.pixels}",
                hint="width and height must be larger than the pixels to expand",
            )
        width, height = _Canvas.of(plan.request.init_images[0], args).picture.size
        check_size(width, height, services.settings)

    def run(self, services: Services, plan: Plan, args: PoorMansOutpaintingArgs, control: JobControl) -> Result:
        """The grown picture."""
        runs = ScriptRuns(services, plan, control)
        canvas = _Canvas.of(plan.request.init_images[0], args)
        tiling = plan_tiles(canvas.picture.size, (plan.width, plan.height), args.pixels)
        sheets = [cut_tiles(sheet, tiling) for sheet in (canvas.picture, canvas.mask, canvas.latent_mask)]
        places = [
            (row, column)
            for row, y in enumerate(tiling.rows)
            for column, x in enumerate(tiling.columns)
            if canvas.touches_border(x, y, tiling.tile)
        ]
        runs.start(len(places))
        first: dict[str, JsonValue] = {}
        last: dict[str, JsonValue] = {}
        for number, (row, column) in enumerate(places):
            if runs.interrupted:
                break
            picture, mask, latent_mask = (sheet[row][column] for sheet in sheets)
            request = replace(
                runs.request,
                seed=runs.request.seed + number,
                n_iter=1,
                batch_size=1,
                init_images=(picture,),
                mask=mask,
                latent_mask=latent_mask,
                mask_blur=args.mask_blur * 2,
                inpainting_fill=_fill(args.inpainting_fill),
                inpaint_full_res=False,
            )
            label = f"Batch {number + 1} out of {len(places)}"
            result = runs.generate(runs.plan_for(request, grid=False, save=False), label)
            last = dict(result.info)
            first = first or last
            sheets[0][row][column] = result.images[0].image if result.images else Image.new("RGB", tiling.tile)
        joined = join_tiles(sheets[0], tiling)
        texts = first.get("infotexts", [])[:1]
        if first:
            runs.save(joined, texts[0], first)
        return runs.reply([runs.picture(joined)], last, seed=runs.request.seed, subseed=-1, infotexts=texts)


@dataclass(frozen=True, slots=True)
class _Canvas:
    """The enlarged picture and its masks, white where it is new. The latent mask covers less of the original."""

    picture: Image.Image
    mask: Image.Image
    latent_mask: Image.Image
    growth: Growth

    @classmethod
    def of(cls, image: Image.Image, args: PoorMansOutpaintingArgs) -> _Canvas:
        growth = Growth.of(image.size, args.pixels, args.directions)
        width = round_up(image.width + sum(args.pixels for side in ("left", "right") if side in args.directions))
        height = round_up(image.height + sum(args.pixels for side in ("up", "down") if side in args.directions))
        picture = Image.new("RGB", (width, height))
        picture.paste(image.convert("RGB"), (growth.left, growth.up))
        masks = [_border((width, height), growth, inset) for inset in (args.mask_blur * 2, args.mask_blur // 2)]
        return cls(picture, masks[0], masks[1], growth)

    def touches_border(self, x: int, y: int, tile: tuple[int, int]) -> bool:
        """Whether a tile at (x, y) reaches outside the original."""
        width, height = self.picture.size
        growth = self.growth
        within_x = x >= growth.left and x + tile[0] <= width - growth.right
        within_y = y >= growth.up and y + tile[1] <= height - growth.down
        return not (within_x and within_y)


def _border(size: tuple[int, int], growth: Growth, inset: int) -> Image.Image:
    mask = Image.new("L", size, "white")
    left, up = growth.left + inset * (growth.left > 0), growth.up + inset * (growth.up > 0)
    right = size[0] - growth.right - inset * (growth.right > 0)
    down = size[1] - growth.down - inset * (growth.down > 0)
    if left <= right and up <= down:
        ImageDraw.Draw(mask).rectangle((left, up, right, down), fill="black")
    return mask


def _fill(wanted: int | str) -> int:
    return wanted if isinstance(wanted, int) else _UNNAMED
