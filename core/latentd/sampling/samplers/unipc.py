"""UniPC: a predictor and corrector of the same order from a few past predictions.

Source: Zhao et al., "UniPC: a unified predictor-corrector framework" (2023), predicting the clean latent, multistep.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from latentd.sampling.samplers.common import ones_of
from latentd.sampling.samplers.run import Denoiser, SamplerRun
from latentd.sampling.samplers.unipc_time import ContinuousTime

VARIANTS = ("bh1", "bh2", "vary_coeff")
_ORDER = 3

Predict: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class _Past:
    """An earlier time, and the clean latent that was predicted there."""

    time: Tensor
    x0: Tensor


Update: TypeAlias = Callable[
    [ContinuousTime, Tensor, list[_Past], Tensor, Predict | None], tuple[Tensor, Tensor | None]
]


@torch.no_grad()
def sample_unipc(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached in as many steps as the run has timesteps.

    Options: ``uni_pc_variant`` ("bh1"), ``uni_pc_skip_type`` ("time_uniform"), ``uni_pc_order`` (3; at most the number
    of steps), ``uni_pc_lower_order_final`` (true).

    :raises ValueError: an unknown variant or skip type.
    """
    clock, timesteps = ContinuousTime.of(run.schedule), run.times()
    steps = len(timesteps)
    start = timesteps[-1].cpu() / 1000 + 1 / 1000 if run.is_img2img else torch.tensor(1.0)
    grid = clock.grid(run.options.get("uni_pc_skip_type", "time_uniform"), start, steps)
    order = min(int(run.options.get("uni_pc_order", _ORDER)), steps)
    lower_final = bool(run.options.get("uni_pc_lower_order_final", True))
    update = _update_of(run.options.get("uni_pc_variant", "bh1"))

    def predict(latent: Tensor, time: Tensor) -> Tensor:
        eps = denoiser(latent, (time - 1 / len(clock.times)) * 1000 * ones_of(latent))
        return (latent - clock.sigma(time) * eps) / clock.alpha(time)

    past = [_Past(grid[0], predict(x, grid[0]))]
    for step in range(1, steps + 1):
        step_order = min(order, step)
        if lower_final and step >= order:
            step_order = min(step_order, steps + 1 - step)
        # The last step is not corrected: no later step would use the prediction that this needs.
        corrector = predict if step < steps else None
        x, x0 = update(clock, x, past[:step_order], grid[step], corrector)
        run.report(step - 1, 0.0, 0.0, x, x if x0 is None else x0)
        if x0 is not None:
            past = [_Past(grid[step], x0), *past[: order - 1]]
    return x


def _update_of(variant: str) -> Update:
    if variant not in VARIANTS:
        raise ValueError(f"uni_pc_variant {variant!r} is unknown; it is one of {', '.join(VARIANTS)}")
    if variant == "vary_coeff":
        return _update_vary
    return lambda clock, x, past, time, corrector: _update_bh(clock, x, past, time, corrector, variant)


def _ratios(clock: ContinuousTime, past: list[_Past], time: Tensor) -> tuple[Tensor, Tensor]:
    """The step in log SNR, and the past points' distances in units of it followed by 1 (newest first)."""
    newest = clock.log_snr(past[0].time)
    h = clock.log_snr(time) - newest
    distances = [(clock.log_snr(point.time) - newest) / h for point in past[1:]]
    return h, torch.stack([*distances, torch.ones_like(h)])


def _differences(past: list[_Past], ratios: Tensor) -> list[Tensor]:
    """The divided differences of the past predictions against the newest."""
    return [(point.x0 - past[0].x0) / ratio for point, ratio in zip(past[1:], ratios, strict=False)]


def _weighted(weights: Tensor, terms: list[Tensor]) -> Tensor | float:
    total: Tensor | float = 0.0
    for weight, term in zip(weights, terms, strict=False):
        total = total + weight * term
    return total


def _base(clock: ContinuousTime, x: Tensor, newest: _Past, time: Tensor, h: Tensor) -> Tensor:
    """The step of first order."""
    return clock.sigma(time) / clock.sigma(newest.time) * x - clock.alpha(time) * torch.expm1(-h) * newest.x0


def _update_bh(
    clock: ContinuousTime, x: Tensor, past: list[_Past], time: Tensor, corrector: Predict | None, variant: str
) -> tuple[Tensor, Tensor | None]:
    """The latent at ``time`` and the prediction there (``None`` without corrector), variants bh1 and bh2."""
    order = len(past)
    h, ratios = _ratios(clock, past, time)
    scale = -h if variant == "bh1" else torch.expm1(-h)
    matrix = torch.stack([ratios**power for power in range(order)])
    target = _phi_targets(-h, order) / scale
    differences = _differences(past, ratios)
    base, alpha = _base(clock, x, past[0], time, h), clock.alpha(time)
    half = torch.tensor([0.5])
    predictor = half if order <= 2 else torch.linalg.solve(matrix[:-1, :-1], target[:-1])
    predicted = base - alpha * scale * _weighted(predictor, differences)
    if corrector is None:
        return predicted, None
    x0 = corrector(predicted, time)
    weights = half if order == 1 else torch.linalg.solve(matrix, target)
    correction = _weighted(weights, [*differences, x0 - past[0].x0])
    return base - alpha * scale * correction, x0


def _phi_targets(hh: Tensor, order: int) -> Tensor:
    """The phi functions of order k + 1, times k! and ``hh``, for k = 1 to ``order``."""
    phi = torch.expm1(hh) / hh - 1
    targets = []
    factorial = 1
    for k in range(1, order + 1):
        targets.append(phi * factorial)
        factorial *= k + 1
        phi = phi / hh - 1 / factorial
    return torch.stack(targets)


def _update_vary(
    clock: ContinuousTime, x: Tensor, past: list[_Past], time: Tensor, corrector: Predict | None
) -> tuple[Tensor, Tensor | None]:
    """The latent at ``time`` and the prediction there (``None`` without corrector), variant vary_coeff."""
    order = len(past)
    h, ratios = _ratios(clock, past, time)
    differences = _differences(past, ratios)
    columns = torch.stack([ratios**k / math.factorial(k + 1) for k in range(order)], dim=1)
    phis = _vary_phis(-h, order)
    base, alpha = _base(clock, x, past[0], time, h), clock.alpha(time)

    def with_terms(weights: Tensor) -> Tensor:
        moved = base
        for k in range(order - 1):
            moved = moved - alpha * phis[k + 1] * _weighted(weights[k], differences)
        return moved

    predicted = with_terms(torch.linalg.inv(columns[:-1, :-1])) if differences else base
    if corrector is None:
        return predicted, None
    x0 = corrector(predicted, time)
    weights = torch.linalg.inv(columns)
    # AUTOMATIC1111 uses the row before the last for the new prediction, and the picture depends on it.
    row = max(order - 2, 0)
    corrected = with_terms(weights) - alpha * phis[order] * ((x0 - past[0].x0) * weights[row, -1])
    return corrected, x0


def _vary_phis(hh: Tensor, order: int) -> list[Tensor]:
    """The phi functions of order 1 to ``order + 1``, times ``hh``."""
    phis = [torch.expm1(hh)]
    factorial = 1
    for k in range(1, order + 1):
        phis.append(phis[-1] / hh - 1 / factorial)
        factorial *= k + 1
    return phis
