"""The work of ``/controlnet/detect``, done on the worker."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from latentd.api import InvalidRequest, JobControl, PreprocessorSpec, Services, WorkerContext
from latentd_controlnet.maps import as_shown, run_module
from latentd_controlnet.parameters import resolve
from latentd_controlnet.prepared import CLIP_MODULES
from latentd_controlnet.preprocessors.pixels import Pixels, as_rgb
from latentd_controlnet.unit_images import first_channel

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(slots=True)
class Detected:
    """Maps, poses as JSON texts, and tensors as base64 of safetensors files."""

    images: list[Image] = field(default_factory=list)
    poses: list[str] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)


def detect(
    spec: PreprocessorSpec,
    images: Sequence[Image],
    masks: Sequence[Image],
    sent: tuple[float, float, float],
    control: JobControl,
    services: Services,
) -> Detected:
    """The maps of ``images`` at the module's resolution.

    :param sent: resolution and thresholds; values outside the sliders' ranges mean the module's own.
    :raises LatentdError: the module lacks its weights or its package; a mask has another size.
    """
    from PIL import Image as Images

    values = resolve(spec, *sent)
    found = Detected()
    context = WorkerContext(
        options=services.options.snapshot(),
        device=services.models.policy.device,
        check=control.check,
        services=services,
    )
    for number, image in enumerate(images):
        control.check()
        poses: list[str] = []
        parameters = {
            "resolution": values.resolution,
            "threshold_a": values.threshold_a,
            "threshold_b": values.threshold_b,
            "poses": poses.append,
        }
        source = _array(image)
        if number < len(masks) and (spec.needs_mask or any(part in spec.name for part in CLIP_MODULES)):
            source = _with_mask(source, _array(masks[number]), number)
        result = run_module(spec, source, parameters, context)
        if isinstance(result, np.ndarray):
            found.images.append(Images.fromarray(as_shown(result) if spec.needs_mask else as_rgb(result)))
        else:
            found.tensors.append(base64.b64encode(result.to_safetensors()).decode())
        found.poses += poses
    return found


def _array(image: Image) -> Pixels:
    return np.asarray(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB"))


def _with_mask(image: Pixels, mask: Pixels, number: int) -> Pixels:
    colours, alpha = as_rgb(image), first_channel(mask)
    if alpha.shape != colours.shape[:2]:
        raise InvalidRequest(f"controlnet_masks[{number}] has another size than its image")
    return np.concatenate([colours, alpha[:, :, None]], axis=2)
