"""Latents to pictures and back as options say: by the VAE, with its precision and tiling, or by TAESD."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from latentd.errors import NotConfigured
from latentd.models.files.hashes import file_stamp
from latentd.models.modules.vae_tiles import VaeHypertile
from latentd.models.nans import NansError, is_nan
from latentd.models.taesd import TaesdPart, load_taesd, taesd_file
from latentd.models.vae import VaeUse, decode, encode
from latentd.regular import is_regular

if TYPE_CHECKING:
    from latentd.pipeline.generation import RunningGeneration

TAESD = "TAESD"
TAESD_FOLDER = "VAE-taesd"


def decode_latents(gen: RunningGeneration, latents: Tensor) -> Tensor:
    """Pictures [B,3,H,W] in [0,1], float32 on the CPU, for ``latents`` [B,4,h,w] (option ``sd_vae_decode_method``).

    :raises NansError: a picture is nothing but NaN.
    :raises Interrupted: the job was cancelled.
    """
    if gen.options["sd_vae_decode_method"] == TAESD:
        gen.infotext["VAE Decoder"] = TAESD
        pictures = taesd_decode(gen, latents, check=gen.leave_if_cancelled)
        if checks_nan(gen) and is_nan(pictures):
            raise NansError(TAESD)
        return pictures
    return decode(gen.model, latents, vae_use(gen), check=gen.leave_if_cancelled)


def encode_pictures(gen: RunningGeneration, pictures: Tensor) -> Tensor:
    """Latents [B,4,h,w], float32 on the model's device, for ``pictures`` [B,3,H,W] in [0,1].

    Option ``sd_vae_encode_method`` chooses VAE or TAESD; the infotext names TAESD, as it does for decoding.
    """
    if gen.options["sd_vae_encode_method"] != TAESD:
        return encode(gen.model, pictures, check_nan=checks_nan(gen))
    gen.infotext["VAE Encoder"] = TAESD
    network = taesd(gen, "encoder")
    with torch.no_grad():
        return torch.cat([network(x[None].to(gen.device, gen.dtype)).float() for x in pictures])


def check_methods(gen: RunningGeneration) -> None:
    """Load TAESD if options ask for it, before anything is computed.

    :raises NotConfigured: TAESD's weights are missing.
    """
    if gen.options["sd_vae_decode_method"] == TAESD:
        taesd(gen, "decoder")
    if gen.options["sd_vae_encode_method"] == TAESD and gen.plan.is_img2img:
        taesd(gen, "encoder")


def checks_nan(gen: RunningGeneration) -> bool:
    """Whether a picture of nothing but NaN fails the job (flag ``--disable-nan-check``)."""
    return not gen.services.settings.disable_nan_check


def vae_use(gen: RunningGeneration) -> VaeUse:
    """How the VAE is run in the present pass, by the options."""
    options = gen.options
    retry = torch.float32 if options["auto_vae_precision"] else None
    if options["auto_vae_precision_bfloat16"]:
        retry = torch.bfloat16
    return VaeUse(retry=retry, check_nan=checks_nan(gen), hypertile=_hypertile(gen))


def taesd_decode(gen: RunningGeneration, latents: Tensor, *, check: Callable[[], None] = lambda: None) -> Tensor:
    """Pictures [B,3,H,W] in [0,1], float32 on the CPU, by TAESD's decoder.

    :raises NotConfigured: its weights are missing.
    """
    network = taesd(gen, "decoder")
    pictures = []
    for latent in latents:
        check()
        with torch.no_grad():
            y = network(latent[None].to(gen.device, gen.dtype)).float().cpu()
        pictures.append(y.clamp(0.0, 1.0))
    return torch.cat(pictures)


def taesd(gen: RunningGeneration, part: TaesdPart) -> nn.Module:
    """TAESD's encoder or decoder for the model in use, from the cache of models.

    :raises NotConfigured: the file is missing.
    """
    name = taesd_file(part, sdxl=gen.model.is_sdxl)
    path = find_file(gen, TAESD_FOLDER, name)
    if path is None:
        folder = gen.services.paths.models(TAESD_FOLDER)[0]
        raise NotConfigured("TAESD model not found", hint=f"put {name} (github.com/madebyollin/taesd) into {folder}")
    return small_network(gen, path, partial(load_taesd, path, part))


def find_file(gen: RunningGeneration, kind: str, name: str) -> Path | None:
    """The file ``name`` in a folder of models of ``kind``, or None."""
    found = (folder / name for folder in gen.services.paths.models(kind))
    return next((path for path in found if is_regular(path)), None)


def small_network(
    gen: RunningGeneration, path: Path, load: Callable[[torch.device, torch.dtype], nn.Module]
) -> nn.Module:
    """The network in ``path``, loaded by ``load`` with the device and dtype of the UNet, and kept in the cache."""
    device, dtype = gen.device, gen.dtype
    key = ("small", str(path), *file_stamp(path), str(device), str(dtype))

    def size(network: nn.Module) -> int:
        return sum(p.numel() * p.element_size() for p in network.parameters())

    return gen.services.models.cache.get(key, lambda: load(device, dtype), size)


def _hypertile(gen: RunningGeneration) -> VaeHypertile | None:
    options, hires = gen.options, gen.plan.hires if gen.pass_name == "hires" else None
    if not options["hypertile_enable_vae"]:
        return None
    width, height = (hires.width, hires.height) if hires else (gen.plan.width, gen.plan.height)
    return VaeHypertile(
        width=width,
        height=height,
        max_tile=int(options["hypertile_max_tile_vae"]),
        swap_size=int(options["hypertile_swap_size_vae"]),
        rng=gen.tiles(),
    )
