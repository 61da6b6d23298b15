"""Preprocessors with weights, through controlnet-aux or transformers; each imports its package when it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NoReturn

import numpy as np

from latentd.api import NotConfigured, UpscaleContext
from latentd_controlnet.preprocessors.pixels import Pixels, as_rgb, at_resolution
from latentd_controlnet.preprocessors.weights import cached, find_weights

Params = Mapping[str, Any]
EXTRA = "pip install 'latentd-controlnet[annotators]'"


def absent(image: Pixels, params: Params, context: UpscaleContext) -> NoReturn:
    """:raises NotConfigured: always; no package that could be depended on has this module."""
    raise NotConfigured(
        f"Preprocessor {params['module']} is not part of latentd-controlnet",
        hint="send a finished map with module none, or install a plugin that registers it",
    )


def _aux(name: str, module: str) -> Any:
    """The class ``name`` of controlnet-aux.

    :raises NotConfigured: the package is not installed, or lacks a package of its own.
    """
    try:
        return getattr(import_module("controlnet_aux"), name)
    except ImportError as error:
        raise NotConfigured(f"Preprocessor {module} needs controlnet-aux ({error})", hint=EXTRA) from error


def _run(
    image: Pixels,
    params: Params,
    context: UpscaleContext,
    name: str,
    files: tuple[str, ...],
    arguments: Mapping[str, Any],
) -> Any:
    """The map by controlnet-aux's detector ``name`` with the weight ``files``, which lie side by side."""
    scaled, cut = at_resolution(image, params["resolution"])
    detector = _detector(name, files, params["module"], context)
    side = min(scaled.shape[:2])
    result = detector(scaled, detect_resolution=side, image_resolution=side, output_type="np", **arguments)
    return cut(as_rgb(np.asarray(result)))


def _detector(name: str, files: tuple[str, ...], module: str, context: UpscaleContext) -> Any:
    found = [find_weights(context, module, file) for file in files]
    kind = _aux(name, module)

    def load() -> Any:
        detector = kind.from_pretrained(str(found[0].parent), filename=found[0].name)
        return detector.to(context.device) if hasattr(detector, "to") else detector

    return cached(context, f"{name}:{found[0]}", load)


_MIDAS = ("dpt_hybrid-midas-501f0c75.pt",)
_HED = ("ControlNetHED.pth",)
_PIDI = ("table5_pidinet.pth",)
_LERES = ("res101.pth", "latest_net_G.pth")
_LINEART = ("sk_model.pth", "sk_model2.pth")
_POSE = ("body_pose_model.pth", "hand_pose_model.pth", "facenet.pth")


def _simple(name: str, files: tuple[str, ...], **arguments: Any) -> Callable[..., Any]:
    def run(image: Pixels, params: Params, context: UpscaleContext) -> Any:
        return _run(image, params, context, name, files, arguments)

    return run


midas = _simple("MidasDetector", _MIDAS)
zoe = _simple("ZoeDetector", ("ZoeD_M12_N.pt",))
normal_bae = _simple("NormalBaeDetector", ("scannet.pt",))
hed = _simple("HEDdetector", _HED)
hed_safe = _simple("HEDdetector", _HED, safe=True)
scribble_hed = _simple("HEDdetector", _HED, scribble=True)
pidinet = _simple("PidiNetDetector", _PIDI)
pidinet_safe = _simple("PidiNetDetector", _PIDI, safe=True)
pidinet_scribble = _simple("PidiNetDetector", _PIDI, scribble=True)
pidinet_sketch = _simple("PidiNetDetector", _PIDI, apply_filter=True)
lineart = _simple("LineartDetector", _LINEART)
lineart_coarse = _simple("LineartDetector", _LINEART, coarse=True)
lineart_anime = _simple("LineartAnimeDetector", ("netG.pth",))
mobile_sam = _simple("SamDetector", ("sam_vit_h_4b8939.pth",))
openpose = _simple("OpenposeDetector", _POSE)
openpose_hand = _simple("OpenposeDetector", _POSE, include_hand=True)
openpose_face = _simple("OpenposeDetector", _POSE, include_face=True)
openpose_faceonly = _simple("OpenposeDetector", _POSE, include_body=False, include_face=True)
openpose_full = _simple("OpenposeDetector", _POSE, include_hand=True, include_face=True)


def midas_normal(image: Pixels, params: Params, context: UpscaleContext) -> Any:
    """Normals from MiDaS' depth; the background is flat below ``threshold_a``."""
    scaled, cut = at_resolution(image, params["resolution"])
    detector = _detector("MidasDetector", _MIDAS, params["module"], context)
    side = min(scaled.shape[:2])
    sizes = {"detect_resolution": side, "image_resolution": side}
    _, normal = detector(scaled, bg_th=params["threshold_a"], depth_and_normal=True, output_type="np", **sizes)
    return cut(as_rgb(np.asarray(normal)))


def leres(image: Pixels, params: Params, context: UpscaleContext) -> Any:
    """Depth by LeReS, near and far parts cut off by percent."""
    return _leres(image, params, context, boost=False)


def leres_boost(image: Pixels, params: Params, context: UpscaleContext) -> Any:
    """As :func:`leres`, merged from several resolutions."""
    return _leres(image, params, context, boost=True)


def _leres(image: Pixels, params: Params, context: UpscaleContext, *, boost: bool) -> Any:
    cuts = {"thr_a": params["threshold_a"], "thr_b": params["threshold_b"], "boost": boost}
    return _run(image, params, context, "LeresDetector", _LERES, cuts)


def mlsd(image: Pixels, params: Params, context: UpscaleContext) -> Any:
    """Straight lines."""
    limits = {"thr_v": params["threshold_a"], "thr_d": params["threshold_b"]}
    return _run(image, params, context, "MLSDdetector", ("mlsd_large_512_fp32.pth",), limits)


def teed(image: Pixels, params: Params, context: UpscaleContext) -> Any:
    """Soft edges by TEED."""
    steps = {"safe_steps": int(params["threshold_a"])}
    return _run(image, params, context, "TEEDdetector", ("7_model.pth",), steps)


def anyline(image: Pixels, params: Params, context: UpscaleContext) -> Any:
    """Lines of any kind."""
    return _run(image, params, context, "AnylineDetector", ("MTEED.pth",), {})


def mediapipe_face(image: Pixels, params: Params, context: UpscaleContext) -> Any:
    """Face meshes by mediapipe, which carries its own weights."""
    scaled, cut = at_resolution(image, params["resolution"])
    kind = _aux("MediapipeFaceDetector", params["module"])
    side = min(scaled.shape[:2])
    try:
        result = kind()(
            scaled,
            max_faces=int(params["threshold_a"]),
            min_confidence=params["threshold_b"],
            detect_resolution=side,
            image_resolution=side,
            output_type="np",
        )
    except (ImportError, NameError, AttributeError) as error:
        raise NotConfigured(f"Preprocessor {params['module']} needs mediapipe ({error})", hint=EXTRA) from error
    return cut(as_rgb(np.asarray(result)))


def _depth_by_transformers(image: Pixels, params: Params, context: UpscaleContext, folder: str) -> Any:
    """Depth by a model folder in transformers' form, near parts light."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    where = str(find_weights(context, params["module"], folder))
    scaled, cut = at_resolution(image, params["resolution"])

    def load() -> Any:
        model = AutoModelForDepthEstimation.from_pretrained(where, local_files_only=True)
        processors: Any = AutoImageProcessor
        return processors.from_pretrained(where, local_files_only=True), model.to(context.device).eval()

    processor, model = cached(context, f"depth:{where}", load)
    with torch.inference_mode():
        inputs = processor(images=scaled, return_tensors="pt").to(context.device)
        depth = model(**inputs).predicted_depth[:, None]
        depth = torch.nn.functional.interpolate(depth, size=scaled.shape[:2], mode="bicubic")[0, 0].float()
    depth = (depth - depth.min()) / (depth.max() - depth.min()).clamp_min(1e-6)
    return cut(as_rgb((depth * 255).clamp(0, 255).cpu().numpy().astype(np.uint8)))


def depth_anything(image: Pixels, params: Params, context: UpscaleContext) -> Any:
    """Depth Anything, from a folder in transformers' form."""
    return _depth_by_transformers(image, params, context, "depth-anything-large-hf")


def depth_anything_v2(image: Pixels, params: Params, context: UpscaleContext) -> Any:
    """Depth Anything V2, from a folder in transformers' form."""
    return _depth_by_transformers(image, params, context, "Depth-Anything-V2-Large-hf")


def upernet(image: Pixels, params: Params, context: UpscaleContext) -> Any:
    """Classes of ADE20K by UperNet, from a folder in transformers' form."""
    return _segment(image, params, context, "upernet-convnext-small", "UperNetForSemanticSegmentation")


def oneformer_ade20k(image: Pixels, params: Params, context: UpscaleContext) -> Any:
    """Classes of ADE20K by OneFormer, from a folder in transformers' form."""
    return _segment(image, params, context, "oneformer_ade20k_swin_large", "OneFormerForUniversalSegmentation")


def oneformer_coco(image: Pixels, params: Params, context: UpscaleContext) -> Any:
    """Classes of COCO by OneFormer, from a folder in transformers' form."""
    return _segment(image, params, context, "oneformer_coco_swin_large", "OneFormerForUniversalSegmentation")


def _segment(image: Pixels, params: Params, context: UpscaleContext, folder: str, kind: str) -> Any:
    """A picture of classes, each in its colour of the palette of its data set."""
    import torch
    import transformers

    from latentd_controlnet.preprocessors.palette import class_colours

    where = str(find_weights(context, params["module"], folder))
    scaled, cut = at_resolution(image, params["resolution"])

    def load() -> Any:
        model = getattr(transformers, kind).from_pretrained(where, local_files_only=True)
        processors: Any = transformers.AutoProcessor
        processor = processors.from_pretrained(where, local_files_only=True)
        return processor, model.to(context.device).eval()

    processor, model = cached(context, f"segment:{where}", load)
    task = {"task_inputs": ["semantic"]} if kind.startswith("OneFormer") else {}
    with torch.inference_mode():
        inputs = processor(images=scaled, return_tensors="pt", **task).to(context.device)
        outputs = model(**inputs)
    decoder = getattr(processor, "image_processor", processor)
    classes = decoder.post_process_semantic_segmentation(outputs, target_sizes=[scaled.shape[:2]])[0]
    return cut(class_colours(classes.cpu().numpy()))
