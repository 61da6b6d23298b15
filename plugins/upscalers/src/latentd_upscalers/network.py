"""Upscaling networks: weights are read without unrestricted unpickling, spandrel recognises the architecture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentd.api import ModelLoadError, NotConfigured, install_hint, read_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A loaded upscaler. ``scale`` is a whole factor; ``channels`` is the number of its pictures' channels, 3 or 1."""

    descriptor: Any  # spandrel's ImageModelDescriptor; the package has no types
    scale: int
    channels: int
    device: torch.device
    dtype: torch.dtype

    @torch.inference_mode()
    def enlarge(self, picture: Tensor) -> Tensor:
        """[1,3,h·scale,w·scale] float32 on the CPU, in 0..1, from ``picture`` [1,3,h,w] in 0..1."""
        given = picture.to(self.device, self.dtype)
        if self.channels == 1:
            given = given.transpose(0, 1)  # each colour as a separate grey picture
        enlarged: Tensor = self.descriptor(given)
        if self.channels == 1:
            enlarged = enlarged.transpose(0, 1)
        return enlarged.float().cpu()

    def working_bytes(self, width: int, height: int) -> int:
        """Bytes on the device that a piece of ``width`` x ``height`` pixels needs at the very least.

        What the last convolution takes and gives, at the size of the result: the maps before it are smaller, or as
        large and many.
        """
        layers = (layer for layer in self.descriptor.model.modules() if isinstance(layer, torch.nn.Conv2d))
        last = [layer.in_channels for layer in layers if layer.out_channels == self.channels][-1:]
        maps = self.channels + (last[0] if last else self.channels)
        pictures = 3 // self.channels
        return maps * pictures * width * height * self.scale**2 * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        module = self.descriptor.model
        return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def load_network(path: Path, device: str) -> Network:
    """The upscaler in ``path`` on ``device``, ready for inference.

    Half precision is used on CUDA if the architecture supports it, else float32.

    :raises ModelLoadError: the file is damaged, of an unknown architecture, or not an upscaler.
    :raises NotConfigured: spandrel or torchvision cannot be imported.
    """
    weights = {
        key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in read_weights(path).items()
    }
    descriptor = _recognise(path, weights)
    if descriptor.input_channels not in (1, 3) or descriptor.output_channels != descriptor.input_channels:
        raise ModelLoadError(f"{path.name} takes pictures of {descriptor.input_channels} channels, not RGB")
    place = torch.device(device)
    half = place.type == "cuda" and descriptor.supports_half
    dtype = torch.float16 if half else torch.float32
    descriptor.model.eval().requires_grad_(False).to(place, dtype)
    return Network(
        descriptor=descriptor,
        scale=int(descriptor.scale),
        channels=int(descriptor.input_channels),
        device=place,
        dtype=dtype,
    )


def _recognise(path: Path, weights: dict[str, Tensor]) -> Any:  # as above
    try:
        import spandrel
    except (ImportError, RuntimeError) as error:  # a torchvision made for another torch raises RuntimeError
        raise NotConfigured(
            f"upscaling with {path.name} needs spandrel and torchvision: {error}",
            hint=install_hint("upscalers") + ", with a torchvision made for the installed torch",
        ) from error
    try:
        descriptor = spandrel.ModelLoader().load_from_state_dict(weights)
    except spandrel.UnsupportedModelError as error:
        raise ModelLoadError(f"{path.name} is of no architecture that spandrel {spandrel.__version__} knows") from error
    except Exception as error:  # with the keys of an architecture but other shapes, its builder can raise anything
        reason = " ".join(str(error).split())[:300]
        raise ModelLoadError(f"{path.name} cannot be loaded as an upscaler: {reason}") from error
    if not isinstance(descriptor, spandrel.ImageModelDescriptor) or descriptor.purpose not in ("SR", "Restoration"):
        raise ModelLoadError(
            f"{path.name} is a {descriptor.architecture.name} model, which is no upscaler",
            hint="face restorers belong into models/GFPGAN or models/Codeformer",
        )
    return descriptor


def to_tensor(image: Image.Image) -> Tensor:
    """``image`` as [1,3,h,w] float32 in 0..1, channels blue, green, red as in AUTOMATIC1111 (rules: a1111-extras)."""
    pixels = np.asarray(image, dtype=np.float32)[:, :, ::-1].transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(pixels) / 255).unsqueeze(0)


def to_image(picture: Tensor) -> Image.Image:
    """``picture`` [1,3,h,w], channels blue, green, red, as RGB; clamped to 0..1 and rounded to 8 bits."""
    pixels = picture[0].clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    return Image.fromarray(np.ascontiguousarray(pixels[::-1].transpose(1, 2, 0)))
