"""Postprocessing of pictures outside a generation: the extras endpoints (rules: a1111-extras), without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from PIL import Image

from latentd.errors import NotConfigured, TooLarge
from latentd.images.upscalers import RESIZERS, paste_centred
from latentd.infotext.build import build_parameters
from latentd.pipeline.upscaling import restore_with, upscale_function
from latentd.plugins.blame import blamed, owner_of, picture_and_entries
from latentd.plugins.catalogue import FACERESTORE, install_hint
from latentd.services import WorkerContext

if TYPE_CHECKING:
    from latentd.services import PostprocessorSpec, Registered
    from latentd.types import JsonValue

UPSCALE, GFPGAN, CODEFORMER = "Upscale", "GFPGAN", "CodeFormer"
_ORDER = {UPSCALE: 1000, GFPGAN: 2000, CODEFORMER: 3000}
_RESIZERS = frozenset(resizer.name for resizer in RESIZERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtrasRequest:
    """A request for postprocessing, with the names and defaults of the API. ``raw`` has all fields, for plugins' steps.

    ``postprocessors`` has steps by name: False leaves one out, True or a mapping of parameters makes it run. For steps
    that it does not have, option ``postprocessing_disable_in_extras`` decides.
    """

    resize_mode: int = 0
    gfpgan_visibility: float = 0.0
    codeformer_visibility: float = 0.0
    codeformer_weight: float = 0.0
    upscaling_resize: float = 2.0
    upscaling_resize_w: int = 512
    upscaling_resize_h: int = 512
    upscaling_crop: bool = True
    upscaler_1: str = "None"
    upscaler_2: str = "None"
    extras_upscaler_2_visibility: float = 0.0
    max_side_length: int = 0
    postprocessors: Mapping[str, bool | Mapping[str, JsonValue]] = field(default_factory=dict)
    raw: Mapping[str, JsonValue] = field(default_factory=dict)

    def params(self, step: str) -> Mapping[str, JsonValue]:
        """The parameters of a plugin's step: all fields of the request, replaced by its own parameters."""
        own = self.postprocessors.get(step)
        return {**self.raw, **own} if isinstance(own, Mapping) else self.raw


@dataclass(slots=True, kw_only=True)
class Processed:
    """A picture (RGB) and the steps that it went through, as infotext entries in order."""

    image: Image.Image
    entries: dict[str, JsonValue] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The entries as an infotext line; empty if there are none."""
        return build_parameters(self.entries)


Step: TypeAlias = Callable[[Processed, ExtrasRequest, WorkerContext], None]
"""Changes the picture of :class:`Processed` and adds entries to it."""


def check_extras(request: ExtrasRequest, registry: Registered) -> None:
    """Refuse a request with unknown names, before anything is computed.

    :raises NotFound: an upscaler or a step is unknown.
    :raises NotConfigured: a face restorer is not installed, or a model file is missing.
    """
    for name in request.postprocessors:
        if name not in _ORDER:
            registry.postprocessors.require(name, detail=f"could not find postprocessor named {name}")
    second = request.extras_upscaler_2_visibility if request.upscaler_1 not in ("", "None") else 0
    for name, share in ((request.upscaler_1, 1.0), (request.upscaler_2, second)):
        if name and name not in _RESIZERS:
            upscaler = registry.upscalers.require(name, detail=f"could not find upscaler named {name}")
            if share > 0:
                upscaler.check()
    for name, share in ((GFPGAN, request.gfpgan_visibility), (CODEFORMER, request.codeformer_visibility)):
        if share <= 0:
            continue
        restorer = registry.face_restorers.find(name)
        if restorer is None:
            raise NotConfigured(f"Face restorer {name!r} not found", hint=install_hint(FACERESTORE))
        restorer.check()


def process(
    image: Image.Image, request: ExtrasRequest, registry: Registered, context: WorkerContext, *, max_pixels: int
) -> Processed:
    """``image`` after every step, in the order of option ``postprocessing_operation_order``, on the worker.

    Steps that option ``postprocessing_disable_in_extras`` or the request excludes are left out.

    :param registry: the registered upscalers, restorers and steps.
    :param max_pixels: bound on the result's size.
    :raises TooLarge: the result would exceed it.
    """
    steps = _steps(registry, max_pixels)
    for spec in registry.postprocessors.values():
        owner = owner_of(registry.postprocessors, spec.name)
        steps[spec.name] = (spec.order, partial(_plugin_step, spec=spec, owner=owner))
    wanted = list(context.options["postprocessing_operation_order"])
    left_out = set(context.options["postprocessing_disable_in_extras"]).difference(request.postprocessors)
    left_out |= {name for name, run in request.postprocessors.items() if run is False}

    def rank(name: str) -> tuple[int, float]:
        return (wanted.index(name) if name in wanted else len(wanted), steps[name][0])

    done = Processed(image=image.convert("RGB"))
    for name in sorted((name for name in steps if name not in left_out), key=rank):
        context.check()
        steps[name][1](done, request, context)
    return done


def run_step(
    name: str,
    image: Image.Image,
    request: ExtrasRequest,
    registry: Registered,
    context: WorkerContext,
    *,
    max_pixels: int,
) -> Processed:
    """``image`` after the core's step ``name`` alone.

    :raises TooLarge: as :func:`process`.
    """
    done = Processed(image=image.convert("RGB"))
    _steps(registry, max_pixels)[name][1](done, request, context)
    return done


def _steps(registry: Registered, max_pixels: int) -> dict[str, tuple[float, Step]]:
    """The core's steps by name, each with its place in the order."""
    return {
        UPSCALE: (_ORDER[UPSCALE], partial(_upscale, registry=registry, max_pixels=max_pixels)),
        GFPGAN: (_ORDER[GFPGAN], partial(_restore, registry=registry, name=GFPGAN)),
        CODEFORMER: (_ORDER[CODEFORMER], partial(_restore, registry=registry, name=CODEFORMER)),
    }


def _upscale(
    done: Processed, request: ExtrasRequest, context: WorkerContext, *, registry: Registered, max_pixels: int
) -> None:
    if request.upscaler_1 in ("", "None"):
        return
    factor, size, crop = _target(done.image.size, request, done.entries)
    width, height = int(done.image.width * factor), int(done.image.height * factor)
    if width * height > max_pixels:
        raise TooLarge(f"the result of {width}x{height} is over {max_pixels} pixels", hint="--max-image-mp")
    if size is not None and crop:
        done.entries["Postprocess crop to"] = f"{size[0]}x{size[1]}"
    result = upscale_function(registry, request.upscaler_1, context)(done.image, factor).convert("RGB")
    done.entries["Postprocess upscaler"] = request.upscaler_1
    if request.upscaler_2 not in ("", "None") and request.extras_upscaler_2_visibility > 0:
        second = upscale_function(registry, request.upscaler_2, context)(done.image, factor).convert("RGB")
        result = Image.blend(result, second, request.extras_upscaler_2_visibility)
        done.entries["Postprocess upscaler 2"] = request.upscaler_2
    done.image = paste_centred(result, *size) if size is not None and crop else result


def _target(
    size: tuple[int, int], request: ExtrasRequest, entries: dict[str, JsonValue]
) -> tuple[float, tuple[int, int] | None, bool]:
    """(factor, size in mode 1, crop); adds their entry to ``entries``."""
    if request.resize_mode == 1:
        width, height = request.upscaling_resize_w, request.upscaling_resize_h
        entries["Postprocess upscale to"] = f"{width}x{height}"
        return max(width / size[0], height / size[1]), (width, height), request.upscaling_crop
    factor = float(request.upscaling_resize)
    entries["Postprocess upscale by"] = factor
    if 0 < request.max_side_length < max(size) * factor:
        entries["Max side length"] = request.max_side_length
        factor = request.max_side_length / max(size)
    return factor, None, False


def _restore(
    done: Processed, request: ExtrasRequest, context: WorkerContext, *, registry: Registered, name: str
) -> None:
    share = request.gfpgan_visibility if name == GFPGAN else request.codeformer_visibility
    if share <= 0:
        return
    weight = request.codeformer_weight if name == CODEFORMER else None
    spec = registry.face_restorers[name]
    restored = restore_with(registry, spec, done.image, weight, context).convert("RGB")
    done.image = Image.blend(done.image, restored, share) if share < 1 else restored
    done.entries[f"{name} visibility"] = share
    if weight is not None:
        done.entries["CodeFormer weight"] = weight


def _plugin_step(
    done: Processed, request: ExtrasRequest, context: WorkerContext, *, spec: PostprocessorSpec, owner: str
) -> None:
    with blamed(owner, f"postprocessor {spec.name!r}"):
        image, entries = picture_and_entries(spec.run(done.image, request.params(spec.name), context))
    done.image = image.convert("RGB")
    done.entries.update(entries)
