"""Preprocessors with weights, through controlnet-aux; each imports it when it first runs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import NoReturn

import numpy as np

from latentd.api import JsonValue, NotConfigured, WorkerContext
from latentd_controlnet.preprocessors.pixels import Array, Cut, Params, Pixels, as_rgb, at_resolution, grey_to_rgb
from latentd_controlnet.preprocessors.plain import standard_lines
from latentd_controlnet.preprocessors.weights import Foreign
from latentd_controlnet.thinning import suppress_non_maxima

Run = Callable[[Pixels, Params, WorkerContext], Pixels]
#: Deviation of the blur of a scribble's lines, and the level above which they are drawn.
_SMOOTH, _DRAWN, _SPREAD = 3.0, 127, 4
#: Length of the component towards the viewer in normals computed from depth.
_FLAT = 2 * np.pi
#: Lines of fewer pixels are removed.
_SPECK = 12


def absent(image: Pixels, params: Params, context: WorkerContext) -> NoReturn:
    """Refuse a module that no package offers.

    :raises NotConfigured: always.
    """
    raise NotConfigured(
        f"Preprocessor {params['module']} is not part of latentd-controlnet",
        hint="send a finished map with module none, or install a plugin that registers it",
    )


def absent_face(image: Pixels, params: Params, context: WorkerContext) -> NoReturn:
    """Refuse a module that needs insightface's networks, which may not be redistributed.

    :raises NotConfigured: always.
    """
    raise NotConfigured(
        f"Preprocessor {params['module']} needs insightface, whose networks are not free to pass on",
        hint="send the face's embedding as ipadapter_input, a safetensors file with a tensor cond [1,512]",
    )


def _detector(context: WorkerContext, params: Params, name: str, *files: str) -> Foreign:
    from latentd_controlnet.preprocessors.networks import detector

    return detector(context, params["module"], name, *files)


def _mapped(detector: Foreign, scaled: Pixels, params: Params, **arguments: JsonValue) -> Pixels:
    """The result of ``detector`` for a picture whose sides are multiples of 64, at the picture's size.

    :raises InvalidRequest: it fails on this picture.
    """
    from latentd_controlnet.preprocessors.networks import quiet

    side = min(scaled.shape[:2])
    with quiet(params["module"]):
        result = detector(scaled, detect_resolution=side, image_resolution=side, output_type="np", **arguments)
    return as_rgb(np.asarray(result))


def _by(name: str, file: str, **arguments: JsonValue) -> Run:
    def run(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
        detector = _detector(context, params, name, file)
        scaled, cut = at_resolution(image, params["resolution"])
        return cut(_mapped(detector, scaled, params, **arguments))

    return run


def _scribbled(edges: Run) -> Run:
    """Soft edges as a scribble: thinned to their crests and drawn with a broad pen."""

    def run(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
        import cv2

        soft = edges(image, params, context)[:, :, 0].astype(np.float32)
        crests = suppress_non_maxima(cv2.GaussianBlur(soft, (0, 0), _SMOOTH)) > _DRAWN
        spread = cv2.GaussianBlur(np.where(crests, np.uint8(255), np.uint8(0)), (0, 0), _SMOOTH)
        return grey_to_rgb(np.where(spread > _SPREAD, np.uint8(255), np.uint8(0)))

    return run


_HED = ("hed", "ControlNetHED.pth")
_PIDI = ("pidinet", "table5_pidinet.pth")
_LERES, _MERGE = "res101.pth", "latest_net_G.pth"

zoe = _by("zoe", "ZoeD_M12_N.pt")
normal_bae = _by("normal_bae", "scannet.pt")
hed = _by(*_HED)
hed_safe = _by(*_HED, safe=True)
scribble_hed = _scribbled(hed)
pidinet = _by(*_PIDI)
pidinet_safe = _by(*_PIDI, safe=True)
pidinet_scribble = _scribbled(pidinet)
pidinet_sketch = _by(*_PIDI, apply_filter=True)
lineart = _by("lineart", "sk_model.pth")
lineart_coarse = _by("lineart", "sk_model2.pth")
lineart_anime = _by("lineart_anime", "netG.pth")


def midas(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Depth by MiDaS, near parts light."""
    depth, cut = _midas_depth(image, params, context)
    return grey_to_rgb(cut((_unit(depth) * 255).clip(0, 255).astype(np.uint8)))


def midas_normal(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Normals from MiDaS' depth; flat where the depth, from 0 to 1, is below ``threshold_a``."""
    import cv2

    depth, cut = _midas_depth(image, params, context)
    slopes = np.stack([cv2.Sobel(depth, cv2.CV_32F, *axis, ksize=3) for axis in ((1, 0), (0, 1))], axis=2)
    slopes[_unit(depth) < params["threshold_a"]] = 0
    normal = np.concatenate([slopes, np.full_like(slopes[:, :, :1], _FLAT)], axis=2)
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    return cut((normal * 127.5 + 127.5).clip(0, 255).astype(np.uint8))


def _midas_depth(image: Pixels, params: Params, context: WorkerContext) -> tuple[Array, Cut]:
    """(MiDaS' inverse depth float32 [h,w], the function that removes the padding)."""
    import torch

    network = _detector(context, params, "midas", "dpt_hybrid-midas-501f0c75.pt")
    scaled, cut = at_resolution(image, params["resolution"])
    with torch.inference_mode():
        pixels = torch.from_numpy(scaled).to(context.device).float() / 127.5 - 1.0
        return network(pixels.permute(2, 0, 1)[None])[0].cpu().numpy(), cut


def _unit(values: Array) -> Array:
    """``values`` scaled to the range from 0 to 1."""
    low, high = values.min(), values.max()
    scaled: Array = (values - low) / max(high - low, 1e-12)
    return scaled


def leres(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Depth by LeReS, with percentages of near and far parts cut off."""
    return _leres(image, params, context, _detector(context, params, "leres", _LERES), boost=False)


def leres_boost(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """As :func:`leres`, merged from several resolutions."""
    return _leres(image, params, context, _detector(context, params, "leres_boost", _LERES, _MERGE), boost=True)


def _leres(image: Pixels, params: Params, context: WorkerContext, detector: Foreign, *, boost: bool) -> Pixels:
    scaled, cut = at_resolution(image, params["resolution"])
    return cut(_mapped(detector, scaled, params, thr_a=params["threshold_a"], thr_b=params["threshold_b"], boost=boost))


def mlsd(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Straight lines."""
    detector = _detector(context, params, "mlsd", "mlsd_large_512_fp32.pth")
    scaled, cut = at_resolution(image, params["resolution"])
    return cut(_mapped(detector, scaled, params, thr_v=params["threshold_a"], thr_d=params["threshold_b"]))


def teed(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Soft edges by TEED."""
    scaled, cut = at_resolution(image, params["resolution"])
    return cut(_teed(scaled, params, context, "7_model.pth"))


def anyline(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Soft edges by TEED's weights for lines, without the faint lines of the standard line art."""
    import cv2

    scaled, cut = at_resolution(image, params["resolution"])
    edges = _teed(scaled, params, context, "MTEED.pth").copy()
    faint = (standard_lines(scaled) == 1).astype(np.uint8)
    _, labels, sizes, _ = cv2.connectedComponentsWithStats(faint, connectivity=4)
    large = sizes[:, cv2.CC_STAT_AREA] >= _SPECK
    large[0] = False
    edges[large[labels]] = 1
    return cut(edges)


def _teed(scaled: Pixels, params: Params, context: WorkerContext, file: str) -> Pixels:
    from latentd_controlnet.preprocessors.networks import quiet

    detector = _detector(context, params, "teed", file)
    with quiet(params["module"]):
        steps, side = int(params["threshold_a"]), min(scaled.shape[:2])
        return as_rgb(np.asarray(detector(scaled, detect_resolution=side, safe_steps=steps, output_type="np")))


def mobile_sam(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Everything that Segment Anything finds, each in a colour of its own, large parts first."""
    from latentd_controlnet.preprocessors.networks import quiet

    generator = _detector(context, params, "mobile_sam", "mobile_sam.pt")
    scaled, cut = at_resolution(image, params["resolution"])
    with quiet(params["module"]):
        found = sorted(generator.generate(scaled), key=lambda part: -part["area"])
    random = np.random.RandomState(params.get("seed", 0))
    canvas = np.zeros_like(scaled)
    for part in found:
        canvas[part["segmentation"]] = random.randint(255, size=3)
    return cut(canvas)


def mediapipe_face(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Face meshes by mediapipe, which carries its own weights."""
    from latentd_controlnet.preprocessors.networks import package

    try:
        # The package's detector needs a part of mediapipe that version 0.10.30 removed.
        _ = import_module("mediapipe").solutions
    except (ImportError, AttributeError) as error:
        raise NotConfigured(
            f"Preprocessor {params['module']} needs mediapipe below 0.10.30 ({error})",
            hint="pip install 'mediapipe<0.10.30', which needs numpy 1",
        ) from error
    scaled, cut = at_resolution(image, params["resolution"])
    faces, confidence = int(params["threshold_a"]), params["threshold_b"]
    detector = package(params["module"]).MediapipeFaceDetector()
    return cut(_mapped(detector, scaled, params, max_faces=faces, min_confidence=confidence))
