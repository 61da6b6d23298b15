"""Soft inpainting's overlays: the original's pixels stay where the latent has hardly changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from latentd.api import cut_out, flatten, resize_image, uncrop
from latentd_scripts.weighted_filter import radial_kernel, weighted_window_mean

if TYPE_CHECKING:
    from torch import Tensor

    from latentd.api import Box, Generation, Img2imgStart
    from latentd_scripts.soft_arguments import SoftInpaintingArgs

F32 = NDArray[np.float32]

_STRETCH, _CONTAIN, _LATENT = 0, 2, 3
_SMOOTHING = 4  # pixels
_KERNEL = radial_kernel(reach=1.5, radius=2)


def make_overlays(
    generation: Generation, args: SoftInpaintingArgs, start: Img2imgStart, nmask: Tensor, latents: Tensor
) -> list[tuple[Image.Image, Image.Image]]:
    """(original in RGBA, transparent where it is new; mask, white where it is new) for each picture of the batch.

    :param nmask: the share [1,1,h,w] that is repainted.
    :param latents: the sampled latents [B,C,h,w].
    """
    plan = generation.plan
    moved = torch.linalg.vector_norm(latents - start.latent[: len(latents)], dim=1).float().cpu().numpy()
    tolerance = _tolerance(nmask[0, 0].float().cpu().numpy(), args)
    originals = [_original(generation, picture, start.init.box) for picture in plan.request.init_images]
    found = []
    for index, distance in enumerate(moved):
        original = originals[index if len(originals) > 1 else 0]
        mask = _new_share(distance, tolerance, float(args.difference_contrast))
        mask = resize_image(_CONTAIN, mask, plan.width, plan.height)
        mask = mask.filter(ImageFilter.GaussianBlur(_SMOOTHING))
        if start.init.box is not None:
            mask = uncrop(mask, original.size, start.init.box).convert("L")
        found.append((cut_out(original, mask).convert("RGBA"), mask))
    return found


def _original(generation: Generation, picture: Image.Image, box: Box | None) -> Image.Image:
    plan = generation.plan
    image = flatten(picture, generation.options["img2img_background_color"])
    if box is None:
        # Resize mode 3 stretches the latent instead of the picture, so the overlay must be stretched as well.
        mode = _STRETCH if plan.request.resize_mode == _LATENT else plan.request.resize_mode
        image = resize_image(mode, image, plan.width, plan.height)
    return image


def _tolerance(share: F32, args: SoftInpaintingArgs) -> F32:
    """The change at which half of the original still shows."""
    masked = 1 - np.clip(share, 0, 1) ** (args.preservation_strength / 2)
    lean = 0.5 * (1 - args.mask_influence) + masked * args.mask_influence
    return np.asarray(args.difference_threshold * lean / (1.00001 - lean), dtype=np.float32)


def _new_share(distance: F32, tolerance: F32, contrast: float) -> Image.Image:
    """A mask in mode L from black (no change) to white; peaks are widened, then outliers are averaged away."""
    peaks = weighted_window_mean(distance, _KERNEL, low=0.9, high=1.0)
    smooth = weighted_window_mean(peaks, _KERNEL, low=0.25, high=0.75)
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = 1 / (1 + np.nan_to_num(smooth / tolerance, nan=0.0, posinf=np.inf) ** contrast)
    eased = kept**3 * (kept * (6 * kept - 15) + 10)
    return Image.fromarray((255.0 * (1 - eased)).astype(np.uint8))
