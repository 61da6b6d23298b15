"""CLIP's outputs for a picture, which adapters read: from the encoders' files to transformers' modules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latentd.api import ModelLoadError, WorkerContext
from latentd_controlnet.preprocessors.pixels import Params, Pixels, as_rgb
from latentd_controlnet.preprocessors.weights import Foreign, cached, find_weights

if TYPE_CHECKING:
    from torch import Tensor

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HEAD_WIDTHS = {1024: 64, 1280: 80, 1664: 104}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """CLIP's outputs for one picture, float32.

    ``embeds`` [1,p]; ``last_hidden`` and ``next_to_last`` [1,n,w]; ``blank_next_to_last`` the same of a black picture.
    """

    embeds: Tensor
    last_hidden: Tensor
    next_to_last: Tensor
    blank_next_to_last: Tensor

    def to_safetensors(self) -> bytes:
        """The outputs as a safetensors file, as ``ipadapter_input`` accepts it."""
        from safetensors.torch import save

        named = {"cond": self.embeds, "embeds": self.embeds, "last_hidden": self.last_hidden}
        named |= {"next_to_last": self.next_to_last, "blank_next_to_last": self.blank_next_to_last}
        data: bytes = save({name: tensor.clone().contiguous().cpu() for name, tensor in named.items()})
        return data


def vit_l(image: Pixels, params: Params, context: WorkerContext) -> Seen:
    """OpenAI's ViT-L/14."""
    return see(image, params, context, ("clip_vitl.pth", "clip_vitl.safetensors"))


def vit_h(image: Pixels, params: Params, context: WorkerContext) -> Seen:
    """OpenCLIP's ViT-H/14."""
    return see(image, params, context, ("clip_h.pth", "clip_h.safetensors"))


def vit_g(image: Pixels, params: Params, context: WorkerContext) -> Seen:
    """OpenCLIP's ViT-bigG/14."""
    return see(image, params, context, ("clip_g.pth", "clip_g.safetensors"))


def see(image: Pixels, params: Params, context: WorkerContext, names: tuple[str, ...]) -> Seen:
    """The outputs for ``image`` of the encoder in the first existing file of ``names``.

    A mask, the fourth channel, makes the part outside it blank.

    :raises NotConfigured: none of the files exists.
    :raises ModelLoadError: the file is not a CLIP image encoder.
    """
    import torch

    path = find_weights(context, params["module"], *names)
    on_cpu = bool(context.options.get("controlnet_clip_detector_on_cpu"))
    device = "cpu" if on_cpu else context.device
    encoder = cached(context, f"clip on {device}", [path], lambda: load_encoder(path, device))
    size = encoder.config.image_size
    with torch.inference_mode():
        pixels = torch.cat([_pixels(_visible(image), size), _pixels(np.zeros((size, size, 3), np.uint8), size)])
        out = encoder(pixel_values=pixels.to(device), output_hidden_states=True)
    last, before = out.last_hidden_state.float(), out.hidden_states[-2].float()
    return Seen(
        embeds=out.image_embeds[:1].float(),
        last_hidden=last[:1],
        next_to_last=before[:1],
        blank_next_to_last=before[1:],
    )


def _visible(image: Pixels) -> Pixels:
    if image.ndim == 3 and image.shape[2] == 4:
        mask = image[:, :, 3:]
        colours = image[:, :, :3]
        return colours if not mask.any() else (colours * (mask > 127)).astype(np.uint8)
    return as_rgb(image)


def _pixels(image: Pixels, size: int) -> Tensor:
    """The middle square of ``image`` at the encoder's size [1,3,size,size], normalised as CLIP was trained."""
    import torch
    from PIL import Image

    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(np.ascontiguousarray(image[top : top + side, left : left + side]))
    values = np.asarray(square.resize((size, size), Image.Resampling.BICUBIC), np.float32) / 255.0
    normal = (values - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
    return torch.from_numpy(normal).permute(2, 0, 1)[None]


def load_encoder(path: Path, device: str) -> Foreign:
    """A ``CLIPVisionModelWithProjection`` in float32; its sizes are those of the file's weights.

    :raises ModelLoadError: the file has no such encoder with transformers' names.
    """
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from latentd.api import build_module, read_weights

    weights = read_weights(path)
    shapes = weights.shapes
    try:
        width, _, patch, _ = shapes["vision_model.embeddings.patch_embedding.weight"]
        tokens = shapes["vision_model.embeddings.position_embedding.weight"][0]
        inner = shapes["vision_model.encoder.layers.0.mlp.fc1.weight"][0]
        projected = shapes["visual_projection.weight"][0]
    except KeyError as error:
        raise ModelLoadError(f"{path.name} is no CLIP image encoder ({error} is missing)") from error
    layers = 1 + max(int(key.split(".")[3]) for key in shapes if key.startswith("vision_model.encoder.layers."))
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=inner,
        projection_dim=projected,
        num_hidden_layers=layers,
        num_attention_heads=max(width // HEAD_WIDTHS.get(width, 64), 1),
        image_size=round((tokens - 1) ** 0.5) * patch,
        patch_size=patch,
        hidden_act="quick_gelu" if width == 1024 else "gelu",
    )
    encoder = build_module(lambda: CLIPVisionModelWithProjection(config), weights, torch.device(device), torch.float32)
    # The positions are not among the file's weights, so they are still on the meta device.
    positions = torch.arange(tokens, device=device)[None]
    encoder.vision_model.embeddings.register_buffer("position_ids", positions, persistent=False)
    return encoder
