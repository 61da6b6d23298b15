"""LMS: linear multistep of order four. Source: k-diffusion, after Crowson's PLMS for noise levels."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from latentd.sampling.samplers.common import derivative, ones_of
from latentd.sampling.samplers.run import Denoiser, SamplerRun

_ORDER = 4
_GAUSS_POINT = 3**-0.5


def multistep_coefficient(order: int, levels: Sequence[float], i: int, j: int) -> float:
    """The weight of the slope at level ``i - j`` in the step from ``i`` to ``i + 1``.

    It is the integral of a Lagrange polynomial of degree below four, which two Gauss points give exactly.
    """

    def lagrange(at: float) -> float:
        product = 1.0
        for k in range(order):
            if k != j:
                product *= (at - levels[i - k]) / (levels[i - j] - levels[i - k])
        return product

    centre, half = (levels[i + 1] + levels[i]) / 2, (levels[i + 1] - levels[i]) / 2
    return half * (lagrange(centre - half * _GAUSS_POINT) + lagrange(centre + half * _GAUSS_POINT))


@torch.no_grad()
def sample_lms(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached by extrapolating the last four slopes."""
    sigmas, ones = run.levels(), ones_of(x)
    levels = sigmas.double().tolist()
    slopes: deque[Tensor] = deque(maxlen=_ORDER)
    for i in range(len(sigmas) - 1):
        denoised = denoiser(x, sigmas[i] * ones)
        slopes.appendleft(derivative(x, sigmas[i], denoised))
        run.report(i, sigmas[i], sigmas[i], x, denoised)
        order = len(slopes)
        step = torch.zeros_like(x)
        for j, slope in enumerate(slopes):
            step = step + multistep_coefficient(order, levels, i, j) * slope
        x = x + step
    return x
