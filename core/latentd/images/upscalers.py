"""How any upscaler reaches a size, and the upscalers that need no model (rules: a1111-extras)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

DoUpscale = Callable[[Image.Image], Image.Image]
"""One run of an upscaler at its native factor."""

_MOST_RUNS = 3


def upscale_with(do_upscale: DoUpscale, image: Image.Image, scale: float) -> Image.Image:
    """``image`` with both sides times ``scale``, rounded down to multiples of 8 and at least 8.

    The upscaler runs until it has reached that size, at most three times; Lanczos makes the size exact.
    """
    wanted = _wanted(image.size, scale)
    for _ in range(_MOST_RUNS):
        if image.width >= wanted[0] and image.height >= wanted[1]:
            break
        before = image.size
        image = do_upscale(image)
        if image.size == before:
            break
    return image if image.size == wanted else image.resize(wanted, Image.Resampling.LANCZOS)


def largest_on_the_way(size: tuple[int, int], scale: float, native: float) -> tuple[int, int]:
    """Size of the largest picture that :func:`upscale_with` makes with an upscaler whose factor is ``native``."""
    wanted = _wanted(size, scale)
    width, height = size
    for _ in range(_MOST_RUNS):
        if native <= 1 or (width >= wanted[0] and height >= wanted[1]):
            break
        width, height = int(width * native), int(height * native)
    return max(width, wanted[0]), max(height, wanted[1])


def _wanted(size: tuple[int, int], scale: float) -> tuple[int, int]:
    width, height = (max(int(side * scale // 8 * 8), 8) for side in size)
    return width, height


@dataclass(frozen=True, slots=True, kw_only=True)
class Resizer:
    """A built-in upscaler that resamples; with ``filter`` None (the upscaler "None") it leaves the picture alone."""

    name: str
    filter: Image.Resampling | None

    def upscale(self, image: Image.Image, scale: float) -> Image.Image:
        """``image`` enlarged by :func:`upscale_with`."""

        def run(source: Image.Image) -> Image.Image:
            if self.filter is None:
                return source
            return source.resize((int(source.width * scale), int(source.height * scale)), self.filter)

        return upscale_with(run, image, scale)


RESIZERS: tuple[Resizer, ...] = (
    Resizer(name="None", filter=None),
    Resizer(name="Lanczos", filter=Image.Resampling.LANCZOS),
    Resizer(name="Nearest", filter=Image.Resampling.NEAREST),
)


def paste_centred(image: Image.Image, width: int, height: int) -> Image.Image:
    """A picture of ``width`` x ``height`` in RGB with ``image`` in its middle, cut or on black (``upscaling_crop``)."""
    canvas = Image.new("RGB", (width, height))
    canvas.paste(image, (width // 2 - image.width // 2, height // 2 - image.height // 2))
    return canvas
