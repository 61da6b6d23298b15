"""Taking a masked picture apart before sampling, and putting it together afterwards (rules: a1111-img2img)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from latentd.images.fill import cut_out
from latentd.images.region import Box, expand_box, masked_box
from latentd.images.resize import CONTAIN, COVER, Upscale, resize_image


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskLayout:
    """Where a prepared mask acts.

    :param working: the mask at the working size W x H.
    :param overlay: the mask outside which the original is laid over the result; of the original's size if ``box`` is
        set, else W x H.
    :param box: the region that is worked on; None for the whole picture.
    """

    working: Image.Image
    overlay: Image.Image
    box: Box | None


def layout_mask(
    mask: Image.Image, *, width: int, height: int, only_masked: bool, padding: int = 0, resize_mode: int = 0
) -> MaskLayout | None:
    """The layout of a mask from :func:`latentd.images.masks.prepare_mask`.

    None if only the masked part was asked for and nothing is masked, so that there is nothing to inpaint.

    :param only_masked: request field ``inpaint_full_res``.
    :param resize_mode: 0, 1 or 2; ignored with ``only_masked``.
    """
    if not only_masked:
        working = resize_image(resize_mode, mask, width, height)
        doubled = np.clip(np.asarray(working, dtype=np.float32) * 2, 0, 255).astype(np.uint8)
        return MaskLayout(working=working, overlay=Image.fromarray(doubled), box=None)
    found = masked_box(mask, padding)
    if found is None:
        return None
    box = expand_box(found, width, height, mask.size)
    working = resize_image(CONTAIN, mask.crop(box.as_tuple()), width, height)
    return MaskLayout(working=working, overlay=mask, box=box)


def overlay_of(image: Image.Image, overlay_mask: Image.Image, *, resize_mode: int = 0) -> Image.Image:
    """RGBA of ``image``'s size: the original, transparent where it was repainted."""
    if overlay_mask.size != image.size:
        overlay_mask = resize_image(resize_mode, overlay_mask, *image.size)
    return cut_out(image, overlay_mask).convert("RGBA")


def crop_to_box(
    image: Image.Image, box: Box, width: int, height: int, *, upscale: Upscale | None = None
) -> Image.Image:
    """The region of ``image`` at the working size."""
    return resize_image(CONTAIN, image.crop(box.as_tuple()), width, height, upscale=upscale)


def uncrop(image: Image.Image, size: tuple[int, int], box: Box, *, upscale: Upscale | None = None) -> Image.Image:
    """RGBA of ``size``: ``image`` fitted back into ``box``, transparent around it."""
    canvas = Image.new("RGBA", size)
    canvas.paste(resize_image(COVER, image, box.width, box.height, upscale=upscale), (box.left, box.top))
    return canvas


def apply_overlay(
    image: Image.Image, overlay: Image.Image, box: Box | None, *, upscale: Upscale | None = None
) -> tuple[Image.Image, Image.Image]:
    """``(finished, before)``: the generated picture in RGB with the original laid over it, and without."""
    if box is not None:
        image = uncrop(image, overlay.size, box, upscale=upscale)
    finished = image.convert("RGBA")
    finished.alpha_composite(overlay)
    return finished.convert("RGB"), image


def mask_composite(before: Image.Image, overlay_mask: Image.Image) -> Image.Image:
    """The picture before the overlay in RGBA, visible only where it was repainted."""
    visible = resize_image(CONTAIN, overlay_mask, *before.size).convert("L")
    empty = Image.new("RGBa", before.size)
    return Image.composite(before.convert("RGBA").convert("RGBa"), empty, visible).convert("RGBA")
