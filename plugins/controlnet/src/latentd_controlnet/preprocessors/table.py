"""Table of all preprocessors in this package: names, labels, tags, sliders and functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, TypeAlias

from latentd.api import PreprocessorSpec, WorkerContext
from latentd_controlnet.preprocessors.pixels import Params, Pixels

if TYPE_CHECKING:
    from latentd_controlnet.preprocessors.clip import Seen

Slider = tuple[str, float, float, float, float]
RESOLUTION = (64, 2048, 512, 8)
STAR = 100
#: Modules of March 2023 without a later name; they can be used but are not listed.
UNLISTED = frozenset({"binary", "scribble"})
#: Modules without a resolution slider, which use a fixed resolution and write it into infotexts.
FIXED_RESOLUTION = {"shuffle": 512}
#: Modules whose result is not a picture, and which /controlnet/detect does not run.
NOT_DETECTABLE = frozenset({"clip_vision", "revision_clipvision", "revision_ignore_prompt", "ip-adapter-auto"})

_STYLE: Slider = ("Style Fidelity (only for Balanced mode)", 0.0, 1.0, 0.5, 0.01)
_GAMMA: Slider = ("Gamma Correction", 0.1, 2.0, 1.0, 0.001)
_AUGMENT: Slider = ("Noise Augmentation", 0.0, 1.0, 0.0, 0.01)
_NEAR: Slider = ("Remove Near %", 0, 100, 0, 0.1)
_FAR: Slider = ("Remove Background %", 0, 100, 0, 0.1)
_VARIATION: Slider = ("Variation", 3.0, 32.0, 8.0, 1.0)
_SAFE: Slider = ("Safe Steps", 0, 10, 2, 1)
_BACKGROUND: Slider = ("Normal Background Threshold", 0.0, 1.0, 0.4, 0.01)
_INVERTED = "(from white bg & black line)"


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    run: str
    tags: tuple[str, ...] = ()
    sliders: tuple[Slider, ...] = ()
    label: str | None = None
    priority: int = 0
    resolution: tuple[int, int, int, int] | None = RESOLUTION
    aliases: tuple[str, ...] = ()
    needs_mask: bool = False
    model_free: bool = False


Run: TypeAlias = Callable[[Pixels, Params, WorkerContext], "Pixels | Seen"]


def _late(where: str) -> Run:
    """The function at ``module:name`` below this package, imported when it first runs."""
    module, _, name = where.partition(":")

    def run(image: Pixels, params: Params, context: WorkerContext) -> Pixels | Seen:
        found: Run = getattr(import_module(f"latentd_controlnet.preprocessors.{module}"), name)
        return found(image, params, context)

    return run


_SCRIBBLE = ("Scribble", "SparseCtrl")
_IP, _SEG, _POSE, _DEPTH, _EDGE = ("IP-Adapter",), ("Segmentation",), ("OpenPose",), ("Depth",), ("SoftEdge",)
_ROWS: tuple[_Row, ...] = (
    _Row("none", "plain:identity", ("InstructP2P",)),
    _Row("canny", "plain:canny", ("Canny",), (("Low Threshold", 1, 255, 100, 1), ("High Threshold", 1, 255, 200, 1)),
         priority=STAR),
    _Row("invert", "plain:invert", ("Canny", "Lineart", "Scribble", "MLSD"), label=f"invert {_INVERTED}", priority=20,
         resolution=None),
    _Row("blur_gaussian", "plain:blur", ("Tile",), (("Sigma", 0.01, 64.0, 9.0, 0.01),)),
    _Row("scribble_xdog", "plain:scribble_xdog", _SCRIBBLE, (("XDoG Threshold", 1, 64, 32, 0.01),)),
    _Row("threshold", "plain:threshold", (), (("Binarization Threshold", 0, 255, 127, 0.01),)),
    _Row("shuffle", "plain:shuffle", ("Shuffle",), resolution=None),
    _Row("inpaint", "plain:identity", ("Inpaint",), label="inpaint_global_harmonious", resolution=None,
         needs_mask=True),
    _Row("inpaint_only", "plain:identity", ("Inpaint",), priority=STAR, resolution=None, needs_mask=True),
    _Row("inpaint_only+lama", "lama:fill", ("Inpaint",), resolution=None, needs_mask=True),
    _Row("tile_resample", "plain:tile_resample", ("Tile",), (("Down Sampling Rate", 1.0, 8.0, 1.0, 0.01),),
         priority=STAR),
    _Row("tile_colorfix", "plain:rgb", ("Tile",), (_VARIATION,)),
    _Row("tile_colorfix+sharp", "plain:rgb", ("Tile",), (_VARIATION, ("Sharpness", 0.0, 2.0, 1.0, 0.01))),
    _Row("recolor_luminance", "plain:recolor_luminance", ("Recolor",), (_GAMMA,), priority=STAR),
    _Row("recolor_intensity", "plain:recolor_intensity", ("Recolor",), (_GAMMA,)),
    _Row("color", "plain:colour_grid", ("T2I-Adapter",), label="t2ia_color_grid"),
    _Row("lineart_standard", "plain:lineart_standard", ("Lineart",), label=f"lineart_standard {_INVERTED}",
         priority=STAR),
    _Row("reference_only", "plain:rgb", ("Reference",), (_STYLE,), priority=STAR, model_free=True),
    _Row("reference_adain", "plain:rgb", ("Reference",), (_STYLE,), model_free=True),
    _Row("reference_adain+attn", "plain:rgb", ("Reference",), (_STYLE,), model_free=True),
    _Row("binary", "plain:binary", (), (("Binarization Threshold", 0, 255, 0, 0.01),)),
    _Row("scribble", "plain:scribble"),
    # With weights, through controlnet-aux.
    _Row("depth", "annotators:midas", _DEPTH, label="depth_midas", priority=STAR),
    _Row("depth_leres", "annotators:leres", _DEPTH, (_NEAR, _FAR)),
    _Row("depth_leres++", "annotators:leres_boost", _DEPTH, (_NEAR, _FAR)),
    _Row("depth_zoe", "annotators:zoe", _DEPTH),
    _Row("depth_anything", "depth:depth_anything", _DEPTH),
    _Row("depth_anything_v2", "depth:depth_anything_v2", _DEPTH),
    _Row("depth_hand_refiner", "annotators:absent", _DEPTH),
    _Row("normal_map", "annotators:midas_normal", ("NormalMap",), (_BACKGROUND,), label="normal_midas"),
    _Row("normal_bae", "annotators:normal_bae", ("NormalMap",), priority=STAR),
    _Row("normal_dsine", "annotators:absent", ("NormalMap",), (("Fov", 0, 360, 60, 0.1), ("Iterations", 1, 20, 5, 1))),
    _Row("openpose", "openpose:body", _POSE),
    _Row("openpose_face", "openpose:face", _POSE),
    _Row("openpose_faceonly", "openpose:face_only", _POSE),
    _Row("openpose_full", "openpose:full", _POSE, priority=STAR),
    _Row("openpose_hand", "openpose:hand", _POSE),
    _Row("dw_openpose_full", "dwpose:whole_body", _POSE),
    _Row("animal_openpose", "annotators:absent", _POSE),
    _Row("densepose", "annotators:absent", _POSE, label="densepose (pruple bg & purple torso)"),
    _Row("densepose_parula", "annotators:absent", _POSE, label="densepose_parula (black bg & blue torso)"),
    _Row("mediapipe_face", "annotators:mediapipe_face", (),
         (("Max Faces", 1, 10, 1, 1), ("Min Face Confidence", 0.01, 1.0, 0.5, 0.01))),
    _Row("mlsd", "annotators:mlsd", ("MLSD",),
         (("MLSD Value Threshold", 0.01, 2.0, 0.1, 0.01), ("MLSD Distance Threshold", 0.01, 20.0, 0.1, 0.01)),
         priority=STAR),
    _Row("lineart", "annotators:lineart", ("Lineart",), label="lineart_realistic"),
    _Row("lineart_coarse", "annotators:lineart_coarse", ("Lineart",)),
    _Row("lineart_anime", "annotators:lineart_anime", ("Lineart",)),
    _Row("lineart_anime_denoise", "annotators:absent", ("Lineart",)),
    _Row("hed", "annotators:hed", _EDGE, label="softedge_hed"),
    _Row("hed_safe", "annotators:hed_safe", _EDGE, label="softedge_hedsafe"),
    _Row("pidinet", "annotators:pidinet", _EDGE, label="softedge_pidinet", priority=STAR),
    _Row("pidinet_safe", "annotators:pidinet_safe", _EDGE, label="softedge_pidisafe"),
    _Row("softedge_teed", "annotators:teed", _EDGE, (_SAFE,)),
    _Row("softedge_anyline", "annotators:anyline", _EDGE, (_SAFE,), resolution=(64, 2048, 1280, 8)),
    _Row("scribble_hed", "annotators:scribble_hed", _SCRIBBLE, aliases=("fake_scribble",)),
    _Row("pidinet_scribble", "annotators:pidinet_scribble", _SCRIBBLE, label="scribble_pidinet", priority=STAR),
    _Row("pidinet_sketch", "annotators:pidinet_sketch", ("T2I-Adapter",), label="t2ia_sketch_pidi"),
    _Row("segmentation", "segments:upernet", _SEG, label="seg_ufade20k"),
    _Row("oneformer_ade20k", "segments:oneformer_ade20k", _SEG, label="seg_ofade20k", priority=STAR),
    _Row("oneformer_coco", "segments:oneformer_coco", _SEG, label="seg_ofcoco"),
    _Row("anime_face_segment", "annotators:absent", _SEG, label="seg_anime_face"),
    _Row("mobile_sam", "annotators:mobile_sam", _SEG),
    # CLIP's outputs for a picture, for adapters.
    _Row("clip_vision", "clip:vit_l", ("T2I-Adapter",), label="t2ia_style_clipvision"),
    _Row("revision_clipvision", "clip:vit_g", ("Revision",), (_AUGMENT,), priority=STAR, model_free=True),
    _Row("revision_ignore_prompt", "clip:vit_g", ("Revision",), (_AUGMENT,), model_free=True),
    _Row("ip-adapter-auto", "clip:vit_h", _IP, priority=1000),
    _Row("ip-adapter_clip_sd15", "clip:vit_h", _IP, label="ip-adapter_clip_h", priority=STAR),
    _Row("ip-adapter_clip_sdxl", "clip:vit_g", _IP, label="ip-adapter_clip_g"),
    _Row("ip-adapter_clip_sdxl_plus_vith", "clip:vit_h", _IP),
    _Row("ip-adapter_face_id", "annotators:absent_face", _IP),
    _Row("ip-adapter_face_id_plus", "annotators:absent_face", _IP),
    _Row("ip-adapter_pulid", "annotators:absent_face", _IP, resolution=None),
    _Row("facexlib", "annotators:absent", (), resolution=None),
    _Row("instant_id_face_embedding", "annotators:absent_face", ("Instant-ID",)),
    _Row("instant_id_face_keypoints", "annotators:absent_face", ("Instant-ID",)),
)  # fmt: skip


def specs() -> list[PreprocessorSpec]:
    """The preprocessors of this package, in the table's order."""
    return [_spec(row) for row in _ROWS]


def _spec(row: _Row) -> PreprocessorSpec:
    label = (row.label,) if row.label else ()
    return PreprocessorSpec(
        name=row.name,
        run=_named(row.run, row.name),
        label=row.label,
        tags=row.tags,
        sliders=row.sliders,
        aliases=label + row.aliases,
        needs_mask=row.needs_mask,
        model_free=row.model_free,
        resolution=row.resolution,
        priority=row.priority,
    )


def _named(where: str, name: str) -> Run:
    """As :func:`_late`, with the module's name in ``params``, for functions that several modules share."""
    run = _late(where)

    def with_name(image: Pixels, params: Params, context: WorkerContext) -> Pixels | Seen:
        return run(image, {**params, "module": name}, context)

    return with_name


def in_order(found: Sequence[PreprocessorSpec]) -> list[PreprocessorSpec]:
    """``found`` as the API lists them, without unlisted ones: none first, then by priority and label, descending."""
    listed = [spec for spec in found if spec.name not in UNLISTED]
    ranked = sorted(listed, key=lambda s: f"{s.priority:04d}{s.label or s.name}", reverse=True)
    return sorted(ranked, key=lambda s: s.name != "none")
