"""Filling the masked part of a picture by LaMa before inpainting; the network is spandrel's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from latentd.api import ModelLoadError, NotConfigured, WorkerContext, build_module, install_hint, read_weights
from latentd_controlnet.preprocessors.pixels import Params, Pixels, at_resolution
from latentd_controlnet.preprocessors.weights import Foreign, cached, find_weights

#: The short side of the pictures with which LaMa was trained.
SIDE = 256
_TELLING = "model.1.bn_l.running_mean"


def fill(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """``image`` [h,w,4] with the part filled where its fourth channel, the mask, is set.

    :raises NotConfigured: the weights or spandrel are missing.
    """
    import cv2
    import torch

    path = find_weights(context, params["module"], "ControlNetLama.pth", "ControlNetLama.safetensors")
    network = cached(context, "lama", [path], lambda: _load(path, params["module"], context.device))
    scaled, cut = at_resolution(image, SIDE, keep_alpha=True)
    with torch.inference_mode():
        pixels = torch.from_numpy(scaled).to(context.device).permute(2, 0, 1)[None].float() / 255
        result = network(pixels[:, :3], (pixels[:, 3:] > 0.5).float())[0]
        filled = cut((result.permute(1, 2, 0) * 255).clamp(0, 255).cpu().numpy().astype(np.uint8))
    height, width = image.shape[:2]
    share = image[:, :, 3:].astype(np.float32) / 255
    mixed = cv2.resize(filled, (width, height)).astype(np.float32) * share + image[:, :, :3] * (1 - share)
    return np.concatenate([mixed.clip(0, 255).astype(np.uint8), image[:, :, 3:]], axis=2)


def _load(path: Path, module: str, device: str) -> Foreign:
    import torch

    try:
        from spandrel.architectures.LaMa import LaMa
    except ImportError as error:
        raise NotConfigured(
            f"Preprocessor {module} needs spandrel ({error})", hint=install_hint("controlnet", "annotators")
        ) from error
    weights = read_weights(path)
    # The generator has different names in the authors' files and in others.
    prefix = next((key.removesuffix(_TELLING) for key in weights if key.endswith(_TELLING)), None)
    if prefix is None:
        raise ModelLoadError(f"{path.name} holds no LaMa ({_TELLING} is missing)")
    generator = weights.below(f"{prefix}model.")
    named = generator.renamed({f"model.model.{key}": key for key in generator})
    return build_module(lambda: LaMa(in_nc=4, out_nc=3), named, torch.device(device), torch.float32)
