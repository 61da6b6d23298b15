"""Pictures to latents and back through a model's VAE (rules: a1111-decoding)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch import Tensor, nn

from latentd.errors import ModelLoadError
from latentd.models.devices import free_cache, is_out_of_memory
from latentd.models.free_memory import free_memory
from latentd.models.loaded import LoadedModel
from latentd.models.modules.vae_tiles import VaeHypertile
from latentd.models.nans import NansError, is_nan, nan_weights
from latentd.models.untyped import DiffusersVae

if TYPE_CHECKING:
    from latentd.model_services import Model

log = logging.getLogger(__name__)

#: How many feature maps of the VAE's finest level are in memory at once; measured and rounded down.
MAPS = 4
_STOPS = ("ResnetBlock2D", "Attention")
TILE_CELLS = (64, 32, 16)
"""Sides of a tile in latent cells; the next is tried if the device's memory is too small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeUse:
    """How a VAE is run.

    :param retry: the dtype in which a decode of nothing but NaN is repeated; None for never.
    :param check_nan: whether such a decode is an error.
    :param hypertile: the tiling of the decoder's attention, or None.
    """

    retry: torch.dtype | None = torch.float32
    check_nan: bool = True
    hypertile: VaeHypertile | None = None


T = TypeVar("T")


class Posterior(Protocol):
    """A ``DiagonalGaussianDistribution`` of diffusers; tensors [B,4,h,w]."""

    mean: Tensor
    std: Tensor


@torch.no_grad()
def decode(
    model: LoadedModel, latents: Tensor, use: VaeUse | None = None, *, check: Callable[[], None] = lambda: None
) -> Tensor:
    """Pictures [B,3,H,W] in [0,1], float32 on the CPU, for ``latents`` [B,4,h,w]; decoded one at a time.

    A picture of nothing but NaN is decoded again in dtype ``use.retry``, which the VAE then keeps. If the device's
    memory runs out, the picture is decoded in tiles.

    :param check: called before each picture and each module of the decoder; an exception from it ends decoding.
    :raises NansError: a picture is nothing but NaN.
    """
    use = use or VaeUse()
    pictures = []
    tiled = use.hypertile.on(_vae(model)) if use.hypertile else nullcontext()
    with model.part("vae"), tiled, _checked(_vae(model), check):
        for latent in latents:
            check()
            y = _decode_one(model, latent[None], use)
            pictures.append(((y + 1.0) / 2.0).clamp(0.0, 1.0))
    return torch.cat(pictures)


@torch.no_grad()
def encode(
    model: LoadedModel, images: Tensor, sample: Tensor | None = None, *, scale: bool = True, check_nan: bool = True
) -> Tensor:
    """Latents [B,4,h,w], float32 on the model's device, for ``images`` [B,3,H,W] in [0,1]; encoded one at a time.

    They are the posterior's mean, which is within AUTOMATIC1111's own variation: it draws from an unseeded generator.

    :param sample: ε [B,4,h,w]; the result is then mean + deviation·ε.
    :param scale: False for unscaled latents, which instruct-pix2pix models need.
    :param check_nan: whether latents of nothing but NaN are an error.
    :raises NansError: there are such latents.
    """
    vae = _vae(model)
    latents = []
    with model.part("vae"):
        device, dtype = _place(vae)
        for index, image in enumerate(images):
            x = (image[None] * 2.0 - 1.0).to(device, dtype)
            posterior = _in_tiles_if_needed(model, vae, x.shape[-1] * x.shape[-2], partial(_posterior, vae, x))
            z = posterior.mean.float()
            if check_nan and is_nan(z):
                raise NansError("VAE encoder", _nan_hint(model, image))
            if sample is not None:
                z = z + posterior.std.float() * sample[index][None].to(z)
            latents.append(z * model.scale_factor if scale else z)
    return torch.cat(latents).to(model.device)


def encode_pictures(model: Model, pictures: Tensor, sample: Tensor | None = None) -> Tensor:
    """Latents [B,4,h,w], float32 on the model's device, for ``pictures`` [B,3,H,W] in [0,1]; on the worker.

    The posterior's mean, which is within A1111's own variation (it draws from an unseeded generator).

    :param model: of a generation or a lease. :param sample: ε [B,4,h,w]: gives mean + deviation·ε instead.
    :raises NansError: latents of nothing but NaN. :raises TypeError: ``model`` is none of this server's.
    """
    if not isinstance(model, LoadedModel):
        raise TypeError(f"{type(model).__name__} is not a loaded model")
    return encode(model, pictures, sample)


@torch.no_grad()
def distribution(model: LoadedModel, image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation [1,4,h,w] of the latents of ``image`` [3,H,W] in [0,1], scaled; float32 on the model's device.

    Source: Kingma & Welling, "Auto-encoding variational Bayes" (2013): a latent is mean + deviation·ε.

    :raises NansError: nothing but NaN.
    """
    vae = _vae(model)
    with model.part("vae"):
        device, dtype = _place(vae)
        x = (image[None] * 2.0 - 1.0).to(device, dtype)
        posterior = _in_tiles_if_needed(model, vae, x.shape[-1] * x.shape[-2], partial(_posterior, vae, x))
    mean, deviation = (part.float().to(model.device) * model.scale_factor for part in (posterior.mean, posterior.std))
    if is_nan(mean):
        raise NansError("VAE encoder", _nan_hint(model, image))
    return mean, deviation


@contextmanager
def circular_padding(model: LoadedModel, enabled: bool = True) -> Iterator[None]:
    """A context in which all convolutions of UNet and VAE wrap around, so that pictures tile (option ``tiling``)."""
    parts = [part for part in (model.unet, model.vae) if part is not None and enabled]
    convolutions = [m for part in parts for m in part.modules() if isinstance(m, nn.Conv2d)]
    before = [(m, m.padding_mode) for m in convolutions]
    try:
        for m in convolutions:
            m.padding_mode = "circular"
        yield
    finally:
        for m, mode in before:
            m.padding_mode = mode


@contextmanager
def _checked(vae: DiffusersVae, check: Callable[[], None]) -> Iterator[None]:
    """Within it ``check`` is called before each residual block and attention of the VAE."""
    modules = [m for m in vae.modules() if type(m).__name__ in _STOPS]
    handles = [m.register_forward_pre_hook(lambda module, given: check()) for m in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _posterior(vae: DiffusersVae, x: Tensor) -> Posterior:
    posterior: Posterior = vae.encode(x).latent_dist
    return posterior


def _decode_one(model: LoadedModel, latent: Tensor, use: VaeUse) -> Tensor:
    """The VAE's output [1,3,H,W] in [-1,1], float32 on the CPU."""
    vae = _vae(model)

    def run() -> Tensor:
        device, dtype = _place(vae)
        z = (latent.float() / model.scale_factor).to(device, dtype)
        return vae.decode(z).sample.float().cpu()  # type: ignore[no-any-return]

    pixels = latent.shape[-1] * latent.shape[-2] * _magnification(vae) ** 2
    y = _in_tiles_if_needed(model, vae, pixels, run)
    if not use.check_nan or not is_nan(y):
        return y
    dtype = _place(vae)[1]
    if use.retry is None or dtype == use.retry:
        raise NansError("VAE", _nan_hint(model, latent))
    log.warning("the VAE gave NaN in %s; it is used in %s from here on", dtype, use.retry)
    vae.to(use.retry)
    y = _in_tiles_if_needed(model, vae, pixels, run)
    if is_nan(y):
        raise NansError("VAE", _nan_hint(model, latent))
    return y


def _nan_hint(model: LoadedModel, given: Tensor) -> str | None:
    return nan_weights(model) or ("what it was given was NaN already" if bool(given.isnan().any()) else None)


def _in_tiles_if_needed(model: LoadedModel, vae: DiffusersVae, pixels: int, run: Callable[[], T]) -> T:
    """The result of ``run()``, in tiles with the policy's ``tile_vae`` or if memory is too small for the whole.

    :param pixels: pixels of the picture.
    :raises RuntimeError: the memory is too small even for the smallest tiles.
    """
    for cells in TILE_CELLS if model.policy.tile_vae or _is_too_large(vae, pixels) else (None, *TILE_CELLS):
        try:
            with _tiles(vae, cells):
                return run()
        except (RuntimeError, MemoryError) as error:
            if cells == TILE_CELLS[-1] or not is_out_of_memory(error):
                raise
        free_cache()
        log.warning("not enough memory for the VAE %s; working in smaller tiles", "at once" if cells is None else "")
    raise AssertionError("the last size returns or raises")


def _is_too_large(vae: DiffusersVae, pixels: int) -> bool:
    """Whether a picture of ``pixels`` cannot be worked on whole in main memory.

    In main memory this must be known before: systems that overcommit memory end the process rather than refuse it.
    """
    device, dtype = _place(vae)
    if device.type != "cpu":
        return False
    free = free_memory(device)
    return free is not None and MAPS * vae.config.block_out_channels[0] * pixels * dtype.itemsize > free


@contextmanager
def _tiles(vae: DiffusersVae, cells: int | None) -> Iterator[None]:
    """A context in which ``vae`` works in tiles of ``cells`` latent cells a side, or on the whole picture for None."""
    if cells is None:
        yield
        return
    vae.tile_latent_min_size = cells
    vae.tile_sample_min_size = cells * _magnification(vae)
    vae.enable_tiling()
    try:
        yield
    finally:
        vae.disable_tiling()


def _magnification(vae: DiffusersVae) -> int:
    """Pixels in the side of a latent cell."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def _vae(model: LoadedModel) -> DiffusersVae:
    if model.vae is None:
        raise ModelLoadError(f"checkpoint {model.info.name} has no VAE of its own", hint="set option sd_vae")
    return model.vae


def _place(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    weight = next(module.parameters())
    return weight.device, weight.dtype
