"""From a unit's picture to its control maps: choosing, cropping, preprocessing, fitting.

Rules: a1111-controlnet-images, a1111-controlnet-interplay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latentd.api import Generation, GenerationRequest, Plan, PreprocessorSpec, WorkerContext, blamed, owner_of
from latentd_controlnet.enums import ResizeMode, read_resize_mode
from latentd_controlnet.fitting import fit_map
from latentd_controlnet.prepared import PreparedUnit
from latentd_controlnet.preprocessors.pixels import Params, Pixels, as_rgb, round_half_even
from latentd_controlnet.preprocessors.weights import services_of
from latentd_controlnet.unit_images import without_mask

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd_controlnet.preprocessors.clip import Seen

FILL_REGION = 2
#: Modules whose maps the routes of March 2023 return black on white.
SHOWN_INVERTED = frozenset({"canny", "mlsd", "scribble", "scribble_hed", "pidinet", "binary"})
LAMA = "inpaint_only+lama"
AUTOMATIC = "ip-adapter-auto"
#: Weights that read the outputs of ViT-bigG rather than ViT-H, and their widths.
_LARGE_INPUTS = (("proj.weight", 1280), ("proj_in.weight", 1664))


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitMaps:
    """The results of a unit's module.

    :param fitted: pass (``base``, and ``hires`` if there is one) → control map [H,W,3|4] from 0 to 255 at the pass's
        size, float32 if it has a mask, else uint8; empty if the module returns tensors.
    :param tensors: the module's tensors, one entry for each picture.
    :param shown: the maps to append to the reply, in their order.
    """

    fitted: Mapping[str, Pixels]
    tensors: tuple[Seen, ...]
    shown: tuple[Pixels, ...]


def pass_sizes(plan: Plan) -> dict[str, tuple[int, int]]:
    """Pass → (height, width) in pixels, multiples of 8."""
    sizes = {"base": (plan.height // 8 * 8, plan.width // 8 * 8)}
    if plan.hires is not None:
        width, height = plan.hires.final_size
        sizes["hires"] = (height // 8 * 8, width // 8 * 8)
    return sizes


def make_maps(prepared: PreparedUnit, generation: Generation) -> UnitMaps:
    """Run the unit's module on its picture and fit the result to the sizes of the passes.

    :raises LatentdError: the module lacks its weights or its package.
    """
    if prepared.unit.embedding is not None:
        return UnitMaps(fitted={}, tensors=(), shown=())
    sizes = pass_sizes(generation.plan)
    results, sources, mode = [], [], prepared.unit.resize_mode
    for source, mode in _sources(prepared, generation):
        source = _cropped(source, mode, prepared, generation)
        if prepared.module.name == LAMA and mode == ResizeMode.FILL:
            # LaMa also paints the parts by which the picture is to be extended.
            source = fit_map(source, mode, *sizes.get("hires", sizes["base"]), keep_mask=True)
            source = source.clip(0, 255).astype(np.uint8)
        results.append(_run(prepared, source, mode, sizes["base"], generation))
        sources.append(source)
    first = results[0]
    if not isinstance(first, np.ndarray):
        seen = tuple(result for result in results if not isinstance(result, np.ndarray))
        return UnitMaps(fitted={}, tensors=seen, shown=tuple(as_rgb(s[:, :, :3]) for s in sources))
    keep_mask = prepared.is_inpaint
    fitted = {name: fit_map(first, mode, *size, keep_mask=keep_mask) for name, size in sizes.items()}
    is_seed = prepared.unit.style == "seed"
    shown = tuple(as_shown(fitted[name]) for name in ("hires", "base") if name in fitted)
    if is_seed and prepared.module.name in SHOWN_INVERTED:
        shown = tuple(255 - image for image in shown)
    if prepared.unit.reverse_channels or (is_seed and prepared.module.name == "normal_map"):
        fitted = {name: np.concatenate([i[:, :, 2::-1], i[:, :, 3:]], axis=2) for name, i in fitted.items()}
    return UnitMaps(fitted=fitted, tensors=(), shown=shown)


def as_shown(image: Pixels) -> Pixels:
    """A map as the reply shows it: an inpainting mask becomes half transparent."""
    if image.shape[2] != 4:
        return image
    shown = image.clip(0, 255)
    return np.concatenate([shown[:, :, :3], 255 - shown[:, :, 3:] // 2], axis=2).astype(np.uint8)


def _sources(prepared: PreparedUnit, generation: Generation) -> list[tuple[Pixels, ResizeMode]]:
    """The unit's pictures, or else img2img's first, each with its resize mode."""
    unit = prepared.unit
    if prepared.pictures:
        if prepared.takes_mask:
            return [(picture, unit.resize_mode) for picture in prepared.pictures]
        ignore = bool(generation.options["controlnet_ignore_noninpaint_mask"])
        return [(without_mask(picture, unit, ignore_mask=ignore), unit.resize_mode) for picture in prepared.pictures]
    request = generation.request
    picture = as_rgb(_rgb_or_rgba(request.init_images[0]))
    if prepared.is_inpaint:
        picture = np.concatenate([picture, _request_mask(request, picture)[:, :, None]], axis=2)
    return [(picture, read_resize_mode(request.resize_mode))]


def _rgb_or_rgba(image: Image) -> Pixels:
    return np.asarray(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB"))


def _request_mask(request: GenerationRequest, like: Pixels) -> Pixels:
    """img2img's mask at the size of ``like``, inverted and blurred as the request says; zeros if there is none."""
    mask = _prepared_mask(request)
    if mask is None:
        return np.zeros(like.shape[:2], np.uint8)
    if mask.size != (like.shape[1], like.shape[0]):
        mask = mask.resize((like.shape[1], like.shape[0]))
    return np.asarray(mask)


def _prepared_mask(request: GenerationRequest) -> Image | None:
    from latentd.api import prepare_mask

    if request.mask is None:
        return None
    return prepare_mask(
        request.mask,
        round_mask=request.mask_round,
        invert=bool(request.inpainting_mask_invert),
        blur_x=request.mask_blur_x if request.mask_blur is None else request.mask_blur,
        blur_y=request.mask_blur_y if request.mask_blur is None else request.mask_blur,
    )


def _cropped(source: Pixels, mode: ResizeMode, prepared: PreparedUnit, generation: Generation) -> Pixels:
    """``source``, cut to the region of "only masked" inpainting if the request has one and the unit follows it."""
    start = generation.img2img
    box = start.init.box if start is not None else None
    if box is None or not prepared.unit.crop_to_mask or prepared.module.name.startswith("reference"):
        return source
    from PIL import Image

    from latentd.api import resize_image

    mask = _prepared_mask(generation.request)
    assert mask is not None  # a region is where its mask is
    width, height = generation.plan.width, generation.plan.height
    channels = []
    for index in range(source.shape[2]):
        channel = resize_image(int(mode), Image.fromarray(np.ascontiguousarray(source[:, :, index])), *mask.size)
        channel = resize_image(FILL_REGION, channel.crop(box.as_tuple()), width, height)
        channels.append(np.asarray(channel.convert("L")))
    return np.stack(channels, axis=2)


def _run(
    prepared: PreparedUnit, source: Pixels, mode: ResizeMode, size: tuple[int, int], generation: Generation
) -> Pixels | Seen:
    resolution = prepared.parameters.resolution
    if prepared.unit.pixel_perfect:
        resolution = pixel_perfect(source, mode, size)
    parameters = {
        "resolution": resolution,
        "threshold_a": prepared.parameters.threshold_a,
        "threshold_b": prepared.parameters.threshold_b,
        "seed": map_seed(generation.plan),
    }
    return run_module(_module(prepared, generation), source, parameters, worker_context(generation))


def run_module(spec: PreprocessorSpec, source: Pixels, parameters: Params, context: WorkerContext) -> Pixels | Seen:
    """The preprocessor's result for ``source`` [h,w,3|4]: a uint8 array, or tensors with ``to_safetensors``.

    :raises LatentdError: it failed, or returned something else; the message names the plugin that offers it.
    """
    with blamed(owner_of(services_of(context).registry.preprocessors, spec.name), f"preprocessor {spec.name!r}"):
        result: Pixels | Seen = spec.run(source, parameters, context)
        if not isinstance(result, np.ndarray) and not hasattr(result, "to_safetensors"):
            raise TypeError(f"returned a value of type {type(result).__name__}, not an array")
        return result


def _module(prepared: PreparedUnit, generation: Generation) -> PreprocessorSpec:
    """The unit's module; for ``ip-adapter-auto`` the encoder whose outputs have the width of the adapter's input."""
    if prepared.module.name != AUTOMATIC or prepared.file is None:
        return prepared.module
    from latentd_controlnet.kinds.ip_adapter_weights import projection_shapes

    shapes = projection_shapes(prepared.file.path)
    is_large = any(shapes.get(key, (0, 0))[1] == width for key, width in _LARGE_INPUTS)
    registry: Mapping[str, PreprocessorSpec] = generation.services.registry.preprocessors
    return registry["ip-adapter_clip_sdxl" if is_large else "ip-adapter_clip_sd15"]


def worker_context(generation: Generation) -> WorkerContext:
    """The context of preprocessors on the worker."""
    return WorkerContext(
        options=generation.options,
        device=str(generation.device),
        check=generation.control.check,
        services=generation.services,
    )


def pixel_perfect(image: Pixels, mode: ResizeMode, size: tuple[int, int]) -> int:
    """The resolution at which one pixel of the map is one pixel of the picture."""
    height, width = image.shape[:2]
    factors = size[0] / height, size[1] / width
    factor = min(factors) if mode == ResizeMode.FILL else max(factors)
    return round_half_even(factor * min(height, width))


def map_seed(plan: Plan) -> int:
    """The seed of modules that draw at random, from the request's seeds."""
    seeds = (plan.request.seed, plan.seeds), (plan.request.subseed, plan.seeds)
    return sum(int(drawn[0]) if sent == -1 else max(int(sent or 0), 0) for sent, drawn in seeds) % 2**32
