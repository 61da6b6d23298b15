"""Fitting a picture to a size: stretch, cover, or contain (rules: a1111-resize)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

Upscale = Callable[[Image.Image, float], Image.Image]
"""Enlarges a picture by about the given factor; the caller makes the size exact."""

STRETCH, COVER, CONTAIN, LATENT = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentMode:
    """How a hires pass enlarges latents: torch's ``interpolate`` mode and whether it smooths when shrinking."""

    name: str
    mode: str
    antialias: bool


LATENT_MODES: dict[str, LatentMode] = {
    m.name: m
    for m in (
        LatentMode(name="Latent", mode="bilinear", antialias=False),
        LatentMode(name="Latent (antialiased)", mode="bilinear", antialias=True),
        LatentMode(name="Latent (bicubic)", mode="bicubic", antialias=False),
        LatentMode(name="Latent (bicubic antialiased)", mode="bicubic", antialias=True),
        LatentMode(name="Latent (nearest)", mode="nearest", antialias=False),
        LatentMode(name="Latent (nearest-exact)", mode="nearest-exact", antialias=False),
    )
}


def resize_image(
    mode: int, image: Image.Image, width: int, height: int, *, upscale: Upscale | None = None
) -> Image.Image:
    """``image`` at exactly ``width`` x ``height``.

    :param mode: 0 stretches, 1 covers the size and cuts, 2 fits inside and stretches the edges into the gaps.
    :param upscale: used if the picture grows, except for masks (mode L); Lanczos if None.
    :raises ValueError: mode 3, which resizes latents, not pictures.
    """
    if mode == STRETCH:
        return _scaled(image, width, height, upscale)
    if mode not in (COVER, CONTAIN):
        raise ValueError(f"resize mode {mode} does not resize pictures")
    wanted, present = width / height, image.width / image.height
    full_width = wanted > present if mode == COVER else wanted < present
    inner_width = width if full_width else max(image.width * height // image.height, 1)
    inner_height = max(image.height * width // image.width, 1) if full_width else height
    inner = _scaled(image, inner_width, inner_height, upscale)
    canvas = Image.new("L" if image.mode == "L" else "RGB", (width, height))
    canvas.paste(inner, (width // 2 - inner_width // 2, height // 2 - inner_height // 2))
    if mode == CONTAIN:
        _smear_edges(canvas, inner)
    return canvas


def _scaled(image: Image.Image, width: int, height: int, upscale: Upscale | None) -> Image.Image:
    if upscale is not None and image.mode != "L":
        factor = max(width / image.width, height / image.height)
        if factor > 1:
            image = upscale(image, factor)
    if image.size == (width, height) and upscale is not None:
        return image
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _smear_edges(canvas: Image.Image, inner: Image.Image) -> None:
    width, height = canvas.size
    above = height // 2 - inner.height // 2
    left = width // 2 - inner.width // 2
    if inner.height < height and above > 0:
        canvas.paste(inner.resize((width, above), box=(0, 0, width, 0)), (0, 0))
        bottom = (0, inner.height, width, inner.height)
        canvas.paste(inner.resize((width, above), box=bottom), (0, above + inner.height))
    elif inner.width < width and left > 0:
        canvas.paste(inner.resize((left, height), box=(0, 0, 0, height)), (0, 0))
        right = (inner.width, 0, inner.width, height)
        canvas.paste(inner.resize((left, height), box=right), (left + inner.width, 0))
