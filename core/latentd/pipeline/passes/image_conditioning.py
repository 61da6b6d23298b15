"""The further input channels of inpainting and instruct-pix2pix models (rules: a1111-channels)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latentd.models.vae import encode
from latentd.pipeline.passes.latents import encode_pictures

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.models.loaded import LoadedModel
    from latentd.pipeline.generation import RunningGeneration

INPAINT_CHANNELS, EDIT_CHANNELS = 9, 8


def is_inpainting(model: LoadedModel) -> bool:
    """Whether the UNet takes a mask and the masked picture beside the latent."""
    return bool(model.unet_in_channels == INPAINT_CHANNELS)


def is_edit(model: LoadedModel) -> bool:
    """Whether the UNet takes the picture to be edited beside the latent."""
    return bool(model.unet_in_channels == EDIT_CHANNELS)


def image_guidance(gen: RunningGeneration) -> float | None:
    """The request's ``image_cfg_scale`` where the model edits a picture, else None."""
    return gen.request.image_cfg_scale if is_edit(gen.model) and gen.plan.is_img2img else None


def without_picture(gen: RunningGeneration, latents: Tensor) -> Tensor | None:
    """Channels for txt2img: a full mask over grey; None for ordinary models. ``latents`` [B,4,h,w] has the size.

    An edit model without a picture gets zeros.
    """
    return blank_channels(gen.model, latents, lambda pictures: encode_pictures(gen, pictures))


def blank_channels(model: LoadedModel, latents: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor | None:
    """As :func:`without_picture`.

    :param encode: from pictures [1,3,H,W] in 0 to 1 to latents.
    """
    batch, _, height, width = latents.shape
    if is_edit(model):
        return torch.zeros_like(latents)
    if not is_inpainting(model):
        return None
    grey = torch.full((1, 3, height * 8, width * 8), 0.5)
    masked = encode(grey)[:, :, :height, :width]
    channels = torch.cat([torch.ones_like(masked[:, :1]), masked.to(latents)], dim=1)
    return channels.expand(batch, -1, -1, -1)


def with_picture(
    model: LoadedModel,
    pictures: Tensor,
    latents: Tensor,
    *,
    mask: Image | None = None,
    round_mask: bool = True,
    mask_weight: float = 1.0,
) -> Tensor | None:
    """Channels for img2img; None for ordinary models.

    :param pictures: [B,3,H,W] in 0 to 1.
    :param latents: [B,4,h,w], which has the size of the channels.
    :param mask: mode L, white is repainted; None for everything.
    :param round_mask: whether the mask is rounded to 0 and 1.
    :param mask_weight: option ``inpainting_mask_weight``: to what degree the picture is grey under the mask.
    """
    if is_edit(model):
        return _at_size_of(latents, encode(model, pictures, scale=False).to(latents))
    if not is_inpainting(model):
        return None
    conditioning_mask = torch.ones(1, 1, *pictures.shape[-2:])
    if mask is not None:
        values = np.asarray(mask.convert("L"), dtype=np.float32) / 255.0
        conditioning_mask = torch.from_numpy(values)[None, None]
        if conditioning_mask.shape[-2:] != pictures.shape[-2:]:
            conditioning_mask = F.interpolate(conditioning_mask, size=pictures.shape[-2:], mode="bilinear")
        if round_mask:
            conditioning_mask = torch.round(conditioning_mask)
    conditioning_mask = conditioning_mask.to(pictures)
    signed = pictures * 2 - 1
    masked = torch.lerp(signed, signed * (1.0 - conditioning_mask), mask_weight)
    masked_latent = _at_size_of(latents, encode(model, (masked + 1) / 2).to(latents))
    small = F.interpolate(conditioning_mask, size=masked_latent.shape[-2:]).to(latents)
    small = small.expand(masked_latent.shape[0], -1, -1, -1)
    channels = torch.cat([small, masked_latent], dim=1)
    return channels.expand(latents.shape[0], -1, -1, -1)


def _at_size_of(latents: Tensor, encoded: Tensor) -> Tensor:
    """``encoded`` at the size of ``latents``; with resize mode 3 both are stretched after encoding."""
    size = latents.shape[-2:]
    return encoded if encoded.shape[-2:] == size else F.interpolate(encoded, size=size, mode="bilinear")
