"""Upscalers that are listed without a file, as in AUTOMATIC1111, and LDSR."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from latentd.api import NotConfigured, UpscalerSpec, find_models
from latentd_upscalers.families import SUFFIXES, Family, Known

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.api import WorkerContext


def absent_upscaler(known: Known, family: Family, folders: Sequence[Path]) -> UpscalerSpec:
    """The entry of a model without a file; the file is looked for at each use, so that a new one needs no restart."""

    def check() -> None:
        _locate(known, folders)

    def upscale(image: Image, scale: float, context: WorkerContext) -> Image:
        path = _locate(known, folders)
        from latentd_upscalers.running import run_upscaler

        return run_upscaler(path, family, image, context)

    return UpscalerSpec(
        name=known.name,
        upscale=upscale,
        check=check,
        scale=float(known.scale),
        model_name=family.label,
        model_path=known.url,
        family=family.folder,
    )


def _locate(known: Known, folders: Sequence[Path]) -> Path:
    for folder in folders:
        for found in find_models(folder, SUFFIXES):
            if known.answers_to(found.path.name):
                return found.path
    raise NotConfigured(
        f"upscaler {known.name!r} has no model file: {known.file_name} is missing in {folders[0]}",
        hint=f"get it from {known.url}; nothing is downloaded by itself",
    )


def _refuse_ldsr(*_: object) -> NoReturn:
    raise NotConfigured(
        "upscaler 'LDSR' is listed for clients of AUTOMATIC1111 and is not offered",
        hint="it needs an unmaintained diffusion model of its own; choose 'R-ESRGAN 4x+', 'SwinIR 4x' or 'DAT x4'",
    )


# LDSR is a diffusion model with its own first stage and sampler. Its code is unmaintained, and its only checkpoint is a
# pickle of 2 GB with a separate configuration. Other upscalers are better and faster.
LDSR = UpscalerSpec(name="LDSR", upscale=_refuse_ldsr, check=_refuse_ldsr, family="LDSR")
