"""PLMS: pseudo linear multistep. Source: Liu et al. (2022); AUTOMATIC1111's implementation since 1.6."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from latentd.sampling.samplers.common import ones_of
from latentd.sampling.samplers.ddim import AlphaTable
from latentd.sampling.samplers.run import Denoiser, SamplerRun


def _extrapolate(eps: Tensor, old: deque[Tensor]) -> Tensor:
    """The Adams-Bashforth mean of the newest prediction and one to three older ones, newest first."""
    if len(old) == 1:
        return (3 * eps - old[0]) / 2
    if len(old) == 2:
        return (23 * eps - 16 * old[0] + 5 * old[1]) / 12
    return (55 * eps - 59 * old[0] + 37 * old[1] - 9 * old[2]) / 24


@torch.no_grad()
def sample_plms(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached by multistep; the first step evaluates the model twice."""
    table, times, ones = AlphaTable.of(run), run.times(), ones_of(x)
    old: deque[Tensor] = deque(maxlen=3)
    last = len(times) - 1

    def advance(eps: Tensor, index: int) -> tuple[Tensor, Tensor]:
        arrival = table.there[index].item() * ones.view(-1, 1, 1, 1)
        x0 = table.x0(index, x, eps)
        return arrival.sqrt() * x0 + (1.0 - arrival).sqrt() * eps, x0

    for i in range(last):
        index = last - i
        eps = denoiser(x, times[index].item() * ones)
        if old:
            mean = _extrapolate(eps, old)
        else:
            ahead, _ = advance(eps, index)
            mean = (eps + denoiser(ahead, times[index - 1].item() * ones)) / 2
        x, x0 = advance(mean, index)
        old.appendleft(eps)
        run.report(i, 0.0, 0.0, x, x0)
    return x
