"""Control maps as latents, and the random numbers of hooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentd.api import Generation, Model, encode_pictures

if TYPE_CHECKING:
    from latentd_controlnet.maps import UnitMaps


class PassNoise:
    """The random numbers of one sampling pass, from its own generator with the seed that torch's has in the original.

    AUTOMATIC1111 seeds torch with the last seed of the batch when a pass begins. Hooks and the VAE then draw from
    torch, in the order of their calls.
    """

    def __init__(self) -> None:
        self._generator = torch.Generator()

    def open(self, generation: Generation) -> None:
        """Seed the generator at the beginning of a pass."""
        plan = generation.plan
        end = min((generation.batch + 1) * plan.batch_size, len(plan.seeds))
        self._generator.manual_seed(int(plan.seeds[end - 1]) % 2**64)

    def draw(self, shape: Sequence[int], device: torch.device | str) -> Tensor:
        """Standard normal numbers, always drawn on the CPU."""
        return torch.randn(tuple(shape), generator=self._generator).to(device)


def encode_hint(model: Model, hint: Tensor, noise: PassNoise | None = None, mask: Tensor | None = None) -> Tensor:
    """The latent [1,4,h,w] of a control map [1,3|4,H,W] in 0 to 1.

    :param noise: for drawing from the posterior as the original does; if None, the latent is the posterior's mean.
    :param mask: [1,1,H,W]; the picture is grey (0 in -1 to 1) where it is 1.
    """
    pictures = hint[:, :3]
    if mask is not None:
        pictures = ((pictures * 2 - 1) * (1 - mask) + 1) / 2
    sample = None
    if noise is not None:
        height, width = (side // 8 for side in pictures.shape[-2:])
        sample = noise.draw((1, model.latent_channels, height, width), "cpu")
    latent: Tensor = encode_pictures(model, pictures, sample)
    # This may run in the middle of an evaluation; on a small device, loading the VAE may have moved the UNet away.
    with model.part("unet"):
        return latent


def blur_latent(latent: Tensor, radius: int) -> Tensor:
    """The mean of ``latent`` over squares of ``2·radius + 1``, its edges repeated."""
    padded = torch.nn.functional.pad(latent, (radius,) * 4, mode="replicate")
    return torch.nn.functional.avg_pool2d(padded, 2 * radius + 1, stride=1)


def noised_fill(generation: Generation, maps: UnitMaps, noise: Tensor) -> Tensor:
    """The first pass's control map, noised with ``noise`` [B,C,h,w] to the last timestep; ``noise`` if sizes differ."""
    fitted = maps.fitted["base"]
    if (fitted.shape[0] // 8, fitted.shape[1] // 8) != tuple(noise.shape[2:]):
        return noise
    hint = torch.from_numpy(fitted.copy()).to(noise.device).float().div(255).permute(2, 0, 1)[None]
    latent = encode_hint(generation.model, hint).to(noise)
    alpha: Tensor = generation.model.alphas_cumprod()[-1].to(noise)
    fill: Tensor = alpha.sqrt() * latent + (1 - alpha).sqrt() * noise
    return fill
