"""Depth Anything, from folders in transformers' form."""

from __future__ import annotations

import numpy as np

from latentd.api import WorkerContext
from latentd_controlnet.preprocessors.model_folders import folder_network, normalised
from latentd_controlnet.preprocessors.pixels import Params, Pixels, at_resolution, grey_to_rgb

#: The short side for which the network was trained, and the size of its patches; sides are multiples of that.
SIDE, PATCH = 518, 14


def depth_anything(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Depth Anything: near parts light."""
    return _depth(image, params, context, "depth-anything-large-hf")


def depth_anything_v2(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Depth Anything V2: near parts light."""
    return _depth(image, params, context, "Depth-Anything-V2-Large-hf")


def _depth(image: Pixels, params: Params, context: WorkerContext, folder: str) -> Pixels:
    import torch

    network = folder_network(context, params, folder, "DepthAnythingForDepthEstimation")
    scaled, cut = at_resolution(image, params["resolution"])
    factor = SIDE / min(scaled.shape[:2])
    height, width = (round(side * factor / PATCH) * PATCH for side in scaled.shape[:2])
    with torch.inference_mode():
        depth = network(pixel_values=normalised(scaled, height, width, context.device)).predicted_depth[:, None]
        depth = torch.nn.functional.interpolate(depth.float(), scaled.shape[:2], mode="bilinear")[0, 0]
    depth = (depth - depth.min()) / (depth.max() - depth.min()).clamp_min(1e-6)
    return grey_to_rgb(cut((depth * 255).cpu().numpy().astype(np.uint8)))
