"""A rough guess at masked content: the surroundings, blurred into the hole (rules: a1111-mask)."""

from __future__ import annotations

from PIL import Image, ImageFilter, ImageOps

_RADII = (256, 64, 16, 16, 4, 4, 4, 4, 2, 2, 0)
"""Widest first. A narrower blur is laid over the wider ones where it reaches, so that near colours prevail."""


def cut_out(image: Image.Image, mask: Image.Image) -> Image.Image:
    """``image`` in premultiplied RGBa, transparent where ``mask`` is white."""
    kept = Image.new("RGBa", image.size)
    kept.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask.convert("L")))
    return kept


def fill_masked(image: Image.Image, mask: Image.Image) -> Image.Image:
    """``image`` in RGB with the white part of ``mask`` filled from its blurred surroundings."""
    kept = cut_out(image, mask)
    filled = Image.new("RGBA", image.size)
    blurred: dict[int, Image.Image] = {}
    for radius in _RADII:
        if radius not in blurred:
            blurred = {radius: kept.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")}
        filled.alpha_composite(blurred[radius])
    return filled.convert("RGB")
