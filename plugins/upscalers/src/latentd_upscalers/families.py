"""AUTOMATIC1111's families of upscalers: folders, options, seams, and the models that it lists without a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SUFFIXES = (".pt", ".pth", ".safetensors")

_GITHUB = "https://github.com/"
_REAL_ESRGAN = _GITHUB + "xinntao/Real-ESRGAN/releases/download/"
_KAIR = _GITHUB + "cszn/KAIR/releases/download/v1.0/"
_SWINIR = _GITHUB + "JingyunLiang/SwinIR/releases/download/v0.0/"
_DAT = _GITHUB + "n0kovo/dat_upscaler_models/raw/main/DAT/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A model that is listed whether its file exists or not.

    :param url: where users can get it; nothing is downloaded.
    :param fallback: whether it is listed only while its folder is empty.
    """

    name: str
    url: str
    scale: int = 4
    fallback: bool = False

    @property
    def file_name(self) -> str:
        """The name of the file at ``url``."""
        return self.url.rpartition("/")[2]

    def answers_to(self, file_name: str) -> bool:
        """Whether a file of this name is the model: its published name, or the one that AUTOMATIC1111 gives it."""
        return file_name in (self.file_name, f"{self.name}.pth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The upscalers of one folder.

    :param folder: kind of the folder, for ``services.paths.models``.
    :param options: keys of the options for tile size and overlap.
    :param seams: ``blended`` by ramps in 8-bit pictures, or ``averaged`` in floating point.
    :param label: ``model_name`` in the list of upscalers.
    :param enabled: key of the option that says which of ``known`` are listed; None for all.
    :param nominal: the scale in lists for a file from which none can be read.
    """

    folder: str
    options: tuple[str, str] = ("ESRGAN_tile", "ESRGAN_tile_overlap")
    seams: Literal["blended", "averaged"] = "blended"
    label: str | None = None
    known: tuple[Known, ...] = ()
    enabled: str | None = None
    nominal: float | None = 4.0


FAMILIES: tuple[Family, ...] = (
    Family(
        folder="ESRGAN",
        label="ESRGAN_4x",
        known=(Known(name="ESRGAN_4x", url=_KAIR + "ESRGAN.pth", fallback=True),),
    ),
    Family(
        folder="RealESRGAN",
        known=(
            Known(name="R-ESRGAN General 4xV3", url=_REAL_ESRGAN + "v0.2.5.0/realesr-general-x4v3.pth"),
            Known(name="R-ESRGAN General WDN 4xV3", url=_REAL_ESRGAN + "v0.2.5.0/realesr-general-wdn-x4v3.pth"),
            Known(name="R-ESRGAN AnimeVideo", url=_REAL_ESRGAN + "v0.2.5.0/realesr-animevideov3.pth"),
            Known(name="R-ESRGAN 4x+", url=_REAL_ESRGAN + "v0.1.0/RealESRGAN_x4plus.pth"),
            Known(name="R-ESRGAN 4x+ Anime6B", url=_REAL_ESRGAN + "v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth"),
            Known(name="R-ESRGAN 2x+", url=_REAL_ESRGAN + "v0.2.1/RealESRGAN_x2plus.pth", scale=2),
        ),
        enabled="realesrgan_enabled_models",
    ),
    Family(
        folder="DAT",
        options=("DAT_tile", "DAT_tile_overlap"),
        known=tuple(Known(name=f"DAT x{n}", url=f"{_DAT}DAT_x{n}.pth", scale=n) for n in (2, 3, 4)),
        enabled="dat_enabled_models",
        nominal=None,
    ),
    Family(folder="BSRGAN"),
    Family(folder="HAT"),
    Family(
        folder="ScuNET",
        options=("SCUNET_tile", "SCUNET_tile_overlap"),
        seams="averaged",
        label="ScuNET GAN",
        known=(
            Known(name="ScuNET GAN", url=_KAIR + "scunet_color_real_gan.pth", fallback=True),
            Known(name="ScuNET PSNR", url=_KAIR + "scunet_color_real_psnr.pth"),
        ),
    ),
    Family(
        folder="SwinIR",
        options=("SWIN_tile", "SWIN_tile_overlap"),
        seams="averaged",
        label="SwinIR 4x",
        known=(
            Known(
                name="SwinIR 4x",
                url=_SWINIR + "003_realSR_BSRGAN_DFOWMFC_s64w8_SwinIR-L_x4_GAN.pth",
                fallback=True,
            ),
        ),
    ),
)
PACKAGED = FAMILIES[0]
"""The family of files from other packages: they run in tiles with blended seams, as ESRGAN does."""
