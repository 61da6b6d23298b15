"""Upscalers that are listed as AUTOMATIC1111 lists them: without their file, which may come yet, and LDSR."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from latentd.api import NotConfigured, UpscalerSpec, find_models
from latentd_upscalers.families import SUFFIXES, Family, Known

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.api import UpscaleContext


def absent_upscaler(known: Known, family: Family, folders: Sequence[Path]) -> UpscalerSpec:
    """The entry of a model whose file is not there; it is looked for at each use, so a new file needs no restart."""

    def check() -> None:
        _locate(known, folders)

    def upscale(image: Image, scale: float, context: UpscaleContext) -> Image:
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


# A diffusion model with a first stage and a sampler of its own, whose code is unmaintained and whose one checkpoint of
# 2 GB exists as a pickle with a separate configuration: the others do better in less time.
LDSR = UpscalerSpec(name="LDSR", upscale=_refuse_ldsr, check=_refuse_ldsr, family="LDSR")
