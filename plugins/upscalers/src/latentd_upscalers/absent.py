"""Upscalers that are listed, as AUTOMATIC1111 lists them, and cannot run: no file, or left out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latentd.api import NotConfigured, UpscalerSpec
from latentd_upscalers.families import Family, Known

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.api import UpscaleContext


def absent_upscaler(known: Known, family: Family, folder: Path) -> UpscalerSpec:
    """The entry of a model whose file is not there; its use is refused with the file's name and folder."""
    return _refusing(
        name=known.name,
        detail=f"upscaler {known.name!r} has no model file: {known.file_name} is missing in {folder}",
        hint=f"get it from {known.url} (nothing is downloaded by itself) and refresh or restart",
        scale=float(known.scale),
        model_name=family.label,
        model_path=known.url,
        family=family.folder,
    )


def _refusing(*, name: str, detail: str, hint: str, scale: float = 4.0, **listed: str | None) -> UpscalerSpec:
    def check() -> None:
        raise NotConfigured(detail, hint=hint)

    def upscale(image: Image, scale: float, context: UpscaleContext) -> Image:
        raise NotConfigured(detail, hint=hint)

    return UpscalerSpec(name=name, upscale=upscale, check=check, scale=scale, **listed)


# A diffusion model of its own with a first-stage autoencoder and sampler, whose code is unmaintained and whose one
# checkpoint of 2 GB exists as an unsafe pickle with a separate configuration: the others do better in less time.
LDSR = _refusing(
    name="LDSR",
    detail="upscaler 'LDSR' is listed for clients of AUTOMATIC1111 and is not offered",
    hint="it needs an unmaintained diffusion model of its own; choose 'R-ESRGAN 4x+', 'SwinIR 4x' or 'DAT x4'",
    family="LDSR",
)
