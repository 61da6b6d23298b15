"""Face-restoring networks: weights are read without unrestricted unpickling, spandrel recognises the architecture."""

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
class FaceNetwork:
    """A loaded restorer of upright faces of 512x512."""

    architecture: str
    descriptor: Any  # spandrel's ImageModelDescriptor; the package has no types
    device: torch.device

    @torch.inference_mode()
    def restore(self, face: Image.Image, weight: float | None) -> Image.Image:
        """``face`` (RGB) restored, of the same size.

        :param weight: CodeFormer's, from 0 (most restored) to 1 (most like the original).
        """
        pixels = np.asarray(face, dtype=np.float32).transpose(2, 0, 1)
        given = torch.from_numpy(pixels).div(127.5).sub(1).unsqueeze(0).to(self.device)
        restored = self._run(given, weight).float().cpu()[0]
        restored = restored.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
        return Image.fromarray(np.ascontiguousarray(restored.numpy().transpose(1, 2, 0)))

    def _run(self, face: Tensor, weight: float | None) -> Tensor:
        """The restored face [1,3,512,512] for ``face`` of the same shape, both in -1..1."""
        module = self.descriptor.model
        if self.architecture == "GFPGAN":
            # With the noise in the file rather than fresh noise, the same picture gives the same face.
            return module(face, return_rgb=False, randomize_noise=False)[0]  # type: ignore[no-any-return]
        if self.architecture == "CodeFormer":
            return module(face, weight=0.5 if weight is None else weight)[0]  # type: ignore[no-any-return]
        return self.descriptor(face.add(1).div(2)).mul(2).sub(1)  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        module = self.descriptor.model
        return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def load_face_network(path: Path, device: str) -> FaceNetwork:
    """The restorer in ``path`` on ``device``, in float32.

    :raises ModelLoadError: the file is damaged, of an unknown architecture, or not a face restorer.
    :raises NotConfigured: spandrel or torchvision cannot be imported.
    """
    loader = _loader(path)
    weights = {
        key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in read_weights(path).items()
    }
    try:
        descriptor = loader.load_from_state_dict(weights)
    except Exception as error:  # with unknown keys or wrong shapes, a builder can raise anything
        reason = " ".join(str(error).split())[:300]
        raise ModelLoadError(f"{path.name} cannot be loaded as a face restorer: {reason}") from error
    if descriptor.purpose != "FaceSR":
        raise ModelLoadError(
            f"{path.name} is a {descriptor.architecture.name} model, which restores no faces",
            hint="upscalers belong into models/ESRGAN and its neighbours",
        )
    place = torch.device(device)
    descriptor.model.eval().requires_grad_(False).to(place, torch.float32)
    return FaceNetwork(architecture=str(descriptor.architecture.id), descriptor=descriptor, device=place)


def _loader(path: Path) -> Any:  # as above
    """The loader of spandrel, which knows CodeFormer's architecture if that package is installed."""
    try:
        import spandrel
    except (ImportError, RuntimeError) as error:  # a torchvision made for another torch raises RuntimeError
        raise NotConfigured(
            f"restoring faces with {path.name} needs spandrel and torchvision: {error}",
            hint=install_hint("facerestore") + ", with a torchvision made for the installed torch",
        ) from error
    registry = spandrel.ArchRegistry()
    registry.add(*spandrel.MAIN_REGISTRY)
    try:
        import spandrel_extra_arches
    except ImportError:
        return spandrel.ModelLoader(registry=registry)
    registry.add(
        *(support for support in spandrel_extra_arches.EXTRA_REGISTRY if support.architecture.id == "CodeFormer")
    )
    return spandrel.ModelLoader(registry=registry)
