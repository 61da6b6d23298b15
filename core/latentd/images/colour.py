"""Colour correction of img2img results towards their init image (rules: a1111-colour-correction)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentd.images.lab import lab_to_rgb, rgb_to_lab

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]

_LUMA = np.array([0.299, 0.587, 0.114])


def correction_target(image: Image.Image) -> U8:
    """L*a*b* [h, w, 3] of the prepared init image, for :func:`correct_colours`."""
    return rgb_to_lab(np.asarray(image.convert("RGB")))


def correct_colours(target: U8, image: Image.Image) -> Image.Image:
    """``image`` in RGB with the colour distribution of ``target`` and its own luminosity."""
    rgb = np.asarray(image.convert("RGB"))
    matched = lab_to_rgb(match_histograms(rgb_to_lab(rgb), target))
    return Image.fromarray(with_luminosity_of(matched, rgb))


def match_histograms(source: U8, target: U8) -> U8:
    """``source`` [h, w, c] with each channel mapped so that its cumulative histogram follows that of ``target``."""
    matched = np.empty_like(source)
    for channel in range(source.shape[-1]):
        here = np.bincount(source[..., channel].ravel(), minlength=256)
        there = np.bincount(target[..., channel].ravel(), minlength=256)
        levels = np.flatnonzero(there)
        mapped = np.interp(np.cumsum(here) / here.sum(), np.cumsum(there[levels]) / there.sum(), levels)
        matched[..., channel] = mapped.astype(np.uint8)[source[..., channel]]
    return matched


def with_luminosity_of(colours: U8, light: U8) -> U8:
    """``colours`` [h, w, 3] carrying the luminosity of ``light``: blend mode "luminosity" at full opacity.

    Source: W3C Compositing and Blending Level 1, SetLum and ClipColor.
    """
    base, upper = colours / 255.0, light / 255.0
    shifted = base + (upper @ _LUMA - base @ _LUMA)[..., None]
    return (_clip_colour(shifted) * 255).astype(np.uint8)


def _clip_colour(colours: F64) -> F64:
    grey = (colours @ _LUMA)[..., None]
    low, high = colours.min(axis=-1, keepdims=True), colours.max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        raised = grey + (colours - grey) * grey / (grey - low)
        colours = np.where(low < 0, raised, colours)
        lowered = grey + (colours - grey) * (1 - grey) / (high - grey)
        colours = np.where(high > 1, lowered, colours)
    return np.clip(colours, 0.0, 1.0)
