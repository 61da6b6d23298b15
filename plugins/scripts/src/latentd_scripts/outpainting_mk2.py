"""The script ``Outpainting mk2``: grows a picture at one side after the other, from noise with its spectrum."""

from __future__ import annotations

from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

from latentd.api import (
    GeneratedImage,
    JobControl,
    JsonValue,
    Plan,
    Result,
    ScriptRuns,
    Services,
    check_size,
    grid_rows,
    make_grid,
)
from latentd_scripts.arguments import UNUSED, Arguments, FormScript, control
from latentd_scripts.directions import DIRECTIONS, Direction, Growth, round_up
from latentd_scripts.shaped_noise import fill_with_shaped_noise

_ORIGINAL = 1


class OutpaintingArgs(Arguments):
    """``script_args`` of ``Outpainting mk2``."""

    remark: JsonValue = UNUSED
    pixels: int = control(128, "Pixels to expand", minimum=8, maximum=256, step=8, ge=1, le=8192)
    mask_blur: int = control(8, "Mask blur", minimum=0, maximum=64, step=1, ge=0, le=256)
    directions: list[Direction] = control(list(DIRECTIONS), "Outpainting direction", choices=DIRECTIONS)
    noise_q: float = control(
        1.0, "Fall-off exponent (lower=higher detail)", minimum=0.0, maximum=4.0, step=0.01, ge=0, le=16
    )
    color_variation: float = control(0.05, "Color variation", minimum=0.0, maximum=1.0, step=0.01, ge=0, le=1)


class OutpaintingMk2(FormScript[OutpaintingArgs]):
    """Grows the picture left, right, up and down, one after the other."""

    title = "Outpainting mk2"
    modes = ("img2img",)
    Args = OutpaintingArgs
    note = (
        '<p style="margin-bottom:0.75em">Recommended settings: Sampling Steps: 80-100, Sampler: Euler a, '
        "Denoising strength: 0.8</p>"
    )

    def plan(self, plan: Plan, args: OutpaintingArgs, services: Services) -> None:
        """Check the size of the result.

        :raises TooLarge: it is over the server's bound.
        """
        width, height = plan.request.init_images[0].size
        growth = Growth.of((width, height), args.pixels, args.directions)
        width, height = width + growth.left + growth.right, height + growth.up + growth.down
        check_size(width, height, services.settings)

    def run(self, services: Services, plan: Plan, args: OutpaintingArgs, control: JobControl) -> Result:
        """The grown pictures."""
        runs = ScriptRuns(services, plan, control)
        growth = Growth.of(plan.request.init_images[0].size, args.pixels, args.directions)
        sides = [(name, count) for name in DIRECTIONS if (count := getattr(growth, name)) > 0]
        runs.start(plan.n_iter * len(sides))
        outward = _Outward(runs, args)
        done: list[Image.Image] = []
        for batch in range(plan.n_iter):
            pictures = [plan.request.init_images[0].convert("RGB")] * plan.request.batch_size
            for side, count in sides:
                if not runs.interrupted:
                    pictures = outward.expand(pictures, side, count, f"Batch {batch + 1} out of {plan.n_iter}")
            done += pictures
        return _reply(runs, done, outward)


class _Outward:
    """Expansions at one side after the other, and the infos of the first and the last."""

    def __init__(self, runs: ScriptRuns, args: OutpaintingArgs) -> None:
        self.runs = runs
        self.args = args
        self.blur_x = args.mask_blur if {"left", "right"} & set(args.directions) else 0
        self.blur_y = args.mask_blur if {"up", "down"} & set(args.directions) else 0
        self.first: dict[str, JsonValue] = {}
        self.last: dict[str, JsonValue] = {}

    def expand(self, pictures: list[Image.Image], side: str, count: int, label: str) -> list[Image.Image]:
        """``pictures``, all of equal size, grown by ``count`` pixels at ``side``."""
        step = _Step.of(pictures[0].size, side, count, (self.runs.plan.width, self.runs.plan.height))
        blur = self.blur_x if step.horizontal else self.blur_y
        mask = step.mask(count + blur)
        canvases = [
            fill_with_shaped_noise(
                step.canvas(picture), mask, exponent=self.args.noise_q, colour=self.args.color_variation
            )
            for picture in pictures
        ]
        request = replace(
            self.runs.request,
            n_iter=1,
            batch_size=len(pictures),
            init_images=tuple(canvas.crop(step.region) for canvas in canvases),
            mask=mask.crop(step.region),
            latent_mask=step.latent_mask(count + blur * 2),
            width=step.region_size[0],
            height=step.region_size[1],
            mask_blur=None,
            mask_blur_x=self.blur_x * 4,
            mask_blur_y=self.blur_y * 4,
            inpainting_fill=_ORIGINAL,
            inpaint_full_res=False,
        )
        result = self.runs.generate(self.runs.plan_for(request, grid=False, save=False), label)
        self.last = dict(result.info)
        self.first = self.first or self.last
        for canvas, new in zip(canvases, result.images, strict=False):
            canvas.paste(new.image, step.region[:2])
        return [canvas.crop((0, 0, *step.size)) for canvas in canvases]


@dataclass(frozen=True, slots=True)
class _Step:
    """One expansion: ``size`` is the new size, ``padded`` that in multiples of 64, ``region`` the part to redraw."""

    side: str
    count: int
    size: tuple[int, int]
    padded: tuple[int, int]
    region: tuple[int, int, int, int]

    @classmethod
    def of(cls, size: tuple[int, int], side: str, count: int, most: tuple[int, int]) -> _Step:
        horizontal = side in ("left", "right")
        width, height = size[0] + count * horizontal, size[1] + count * (not horizontal)
        padded = round_up(width), round_up(height)
        drawn = (min(most[0], width), padded[1]) if horizontal else (padded[0], min(most[1], height))
        left = 0 if side == "left" else padded[0] - drawn[0]
        top = 0 if side == "up" else padded[1] - drawn[1]
        region = (left, top, left + drawn[0], top + drawn[1])
        return cls(side, count, (width, height), padded, region)

    @property
    def horizontal(self) -> bool:
        return self.side in ("left", "right")

    @property
    def region_size(self) -> tuple[int, int]:
        return self.region[2] - self.region[0], self.region[3] - self.region[1]

    def canvas(self, picture: Image.Image) -> Image.Image:
        """The picture at its place on black."""
        canvas = Image.new("RGB", self.padded)
        canvas.paste(picture, (self.count * (self.side == "left"), self.count * (self.side == "up")))
        return canvas

    def mask(self, inset: int) -> Image.Image:
        """White for ``inset`` pixels from the growing side, black elsewhere."""
        return self._frame(self.padded, inset)

    def latent_mask(self, inset: int) -> Image.Image:
        """The same mask at the region's size."""
        return self._frame(self.region_size, inset)

    def _frame(self, size: tuple[int, int], inset: int) -> Image.Image:
        mask = Image.new("RGB", size, "white")
        box = (
            inset if self.side == "left" else 0,
            inset if self.side == "up" else 0,
            size[0] - inset if self.side == "right" else self.size[0],
            size[1] - inset if self.side == "down" else self.size[1],
        )
        if box[0] <= box[2] and box[1] <= box[3]:
            ImageDraw.Draw(mask).rectangle(box, fill="black")
        return mask


def _reply(runs: ScriptRuns, done: list[Image.Image], outward: _Outward) -> Result:
    first = outward.first
    texts = first.get("infotexts", [])[:1]
    images: list[GeneratedImage] = [runs.picture(image) for image in done]
    for image in done:
        if first:
            runs.save(image, texts[0], first)
    if len(done) > 1:
        rows = grid_rows(len(done), n_rows=int(runs.plan.options["n_rows"]), batch_size=runs.plan.batch_size)
        grid = make_grid(done, rows)
        if first:
            runs.save(grid, texts[0], first, basename="grid", grid=True)
        if runs.plan.options["return_grid"]:
            images.insert(0, runs.picture(grid, grid=True))
    return runs.reply(images, outward.last, seed=runs.request.seed, subseed=-1, infotexts=texts)
