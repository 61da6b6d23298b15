"""A small Euler ancestral sampler with classifier-free guidance, so that evaluation needs no server."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from networks import alphas_bar

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]


def sigmas(count: int) -> Tensor:
    """`count` noise levels at evenly spaced time steps from 999 down to 0, and a final zero."""
    bars = alphas_bar().double()
    table = ((1 - bars) / bars).sqrt().log()
    at = torch.linspace(999, 0, count, dtype=torch.float64)
    low = at.floor().long().clamp(max=998)
    levels = table[low] + (at - low) * (table[low + 1] - table[low])
    return torch.cat((levels.exp(), torch.zeros(1, dtype=torch.float64))).float()


@torch.no_grad()
def sample(
    model: Denoiser,
    context: Tensor,
    empty: Tensor,
    size: tuple[int, int],
    *,
    steps: int = 20,
    scale: float = 6.0,
    seed: int = 0,
) -> Tensor:
    """Latents (n, 4, h, w) of unit variance for contexts (n, 77, c); `empty` (1, 77, c) is the negative prompt's."""
    width, height = size
    generator = torch.Generator().manual_seed(seed)
    levels = sigmas(steps)
    bars = alphas_bar()
    table = ((1 - bars) / bars).sqrt().log()
    both = torch.cat((context, empty.expand_as(context)))
    x = torch.randn(len(context), 4, height, width, generator=generator) * levels[0]
    for now, then in itertools.pairwise(levels):
        step = torch.tensor(float(np.interp(now.log().item(), table.numpy(), np.arange(1000))))
        noisy = (x / (now**2 + 1).sqrt()).repeat(2, 1, 1, 1)
        wanted, unwanted = model(noisy, step.expand(len(noisy)), both).chunk(2)
        direction = unwanted + scale * (wanted - unwanted)
        up = min(then, (then**2 * (now**2 - then**2) / now**2).sqrt())
        down = (then**2 - up**2).sqrt()
        x = x + direction * (down - now)
        if then > 0:
            x = x + torch.randn(x.shape, generator=generator) * up
    return x
