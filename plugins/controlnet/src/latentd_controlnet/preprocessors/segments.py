"""The classes of the things in a picture, in the colours that ControlNets for segmentation expect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.api import WorkerContext
from latentd_controlnet.preprocessors.model_folders import folder_network, normalised
from latentd_controlnet.preprocessors.palette import ADE20K, COCO, class_colours
from latentd_controlnet.preprocessors.pixels import Array, Params, Pixels, at_resolution

if TYPE_CHECKING:
    from torch import Tensor

#: The short side of OneFormer's pictures by data set, and "the task is semantic" as CLIP's tokens, padded with zeros.
ADE20K_SIDE, COCO_SIDE = 640, 800
TASK, TASK_LENGTH = (49406, 518, 10549, 533, 29119, 1550, 49407), 77


def upernet(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Classes of ADE20K by UperNet."""
    import torch

    network = folder_network(context, params, "upernet-convnext-small", "UperNetForSemanticSegmentation")
    scaled, cut = at_resolution(image, params["resolution"])
    with torch.inference_mode():
        logits = network(pixel_values=normalised(scaled, scaled.shape[0], scaled.shape[1], context.device)).logits
    return cut(class_colours(_best(logits, scaled), ADE20K))


def oneformer_ade20k(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Classes of ADE20K by OneFormer."""
    return _oneformer(image, params, context, "oneformer_ade20k_swin_large", ADE20K_SIDE, ADE20K)


def oneformer_coco(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Classes of COCO by OneFormer."""
    return _oneformer(image, params, context, "oneformer_coco_swin_large", COCO_SIDE, COCO)


def _oneformer(
    image: Pixels, params: Params, context: WorkerContext, folder: str, side: int, palette: Pixels
) -> Pixels:
    import torch

    network = folder_network(context, params, folder, "OneFormerForUniversalSegmentation")
    scaled, cut = at_resolution(image, params["resolution"])
    factor = side / min(scaled.shape[:2])
    height, width = (round(length * factor) for length in scaled.shape[:2])
    task = torch.tensor([[*TASK, *(0,) * (TASK_LENGTH - len(TASK))]], device=context.device)
    with torch.inference_mode():
        out = network(pixel_values=normalised(scaled, height, width, context.device), task_inputs=task)
        # Every query is a mask and a class; the last class is "nothing".
        classes, masks = out.class_queries_logits.softmax(dim=-1)[..., :-1], out.masks_queries_logits.sigmoid()
        shares = torch.einsum("bqc,bqhw->bchw", classes, masks)
    return cut(class_colours(_best(shares, scaled), palette))


def _best(scores: Tensor, like: Pixels) -> Array:
    """The class [h,w] with the highest of ``scores`` [1,c,h',w'], at the size of ``like``."""
    import torch

    scaled = torch.nn.functional.interpolate(scores, (like.shape[0], like.shape[1]), mode="bilinear")
    classes: Array = scaled[0].argmax(dim=0).cpu().numpy()
    return classes
