"""Networks in the format of transformers: a folder with ``config.json`` and ``model.safetensors``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latentd.api import ModelLoadError, WorkerContext, check_regular
from latentd_controlnet.preprocessors.pixels import Params, Pixels
from latentd_controlnet.preprocessors.weights import Foreign, cached, find_weights

if TYPE_CHECKING:
    from torch import Tensor

#: Mean and deviation of ImageNet's pictures, by which inputs of such networks are normalised.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def folder_network(context: WorkerContext, params: Params, folder: str, kind: str) -> Foreign:
    """The network of transformers' class ``kind`` in ``folder`` on the context's device, kept loaded.

    :raises NotConfigured: the folder does not exist.
    :raises ModelLoadError: it has no such network in safetensors.
    """
    path = find_weights(context, params["module"], folder)
    return cached(context, kind, [path], lambda: _load(path, kind, context.device))


def _load(path: Path, kind: str, device: str) -> Foreign:
    import torch
    import transformers

    check_regular(path)
    for name in ("config.json", "model.safetensors"):
        if not (path / name).is_file() and not (path / f"{name}.index.json").is_file():
            raise ModelLoadError(f"{path.name} lacks {name}", hint="a folder as transformers' save_pretrained makes it")
    try:
        found = getattr(transformers, kind).from_pretrained(
            str(path), local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except Exception as error:  # a damaged or foreign folder can raise anything in transformers
        raise ModelLoadError(f"{path.name} holds no {kind}: {' '.join(str(error).split())[:300]}") from error
    return found.eval().requires_grad_(False).to(device)


def normalised(image: Pixels, height: int, width: int, device: str) -> Tensor:
    """``image`` [h,w,3] as [1,3,height,width], scaled by cubic interpolation and normalised."""
    import torch

    pixels = torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float() / 255
    if pixels.shape[-2:] != (height, width):
        pixels = torch.nn.functional.interpolate(pixels, (height, width), mode="bicubic", antialias=True).clamp(0, 1)
    mean, deviation = (torch.tensor(values, device=device)[None, :, None, None] for values in (_MEAN, _DEVIATION))
    normal: Tensor = (pixels - mean) / deviation
    return normal
