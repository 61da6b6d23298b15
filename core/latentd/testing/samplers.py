"""The contract of samplers: with a model that always predicts the same picture, sampling ends at that picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

    from latentd.sampling.schedule import NoiseSchedule

SHAPE = (2, 4, 8, 8)
TOLERANCE = 0.3  # samplers that end at the lowest noise level instead of zero differ by up to half of this


def check_sampler(spec: SamplerSpec, *, steps: int = 12) -> None:
    """Run ``spec`` twice on a batch of two latents.

    :raises AssertionError: the result has another shape, is not finite, differs between equal runs, or is not the
        picture that the model predicts.
    """
    first, target = _sampled(spec, steps)
    second, _ = _sampled(spec, steps)
    assert first.shape == target.shape, f"{spec.name}: gave {tuple(first.shape)} for {tuple(target.shape)}"
    assert bool(first.isfinite().all()), f"{spec.name}: gave values that are not finite"
    assert bool((first == second).all()), f"{spec.name}: two runs on equal noise differ"
    distance = float((first - target).abs().max())
    assert distance < TOLERANCE, f"{spec.name}: ended {distance:.3f} away from what the model predicts"


def _sampled(spec: SamplerSpec, steps: int) -> tuple[Tensor, Tensor]:
    import torch

    from latentd.sampling.brownian import BrownianNoise
    from latentd.sampling.catalogue import SCHEDULERS, SamplerCatalogue
    from latentd.sampling.sampling_schedule import SamplingParams, schedule_sampling
    from latentd.sampling.schedule import NoiseSchedule

    generator = torch.Generator().manual_seed(1)

    def noise() -> Tensor:
        return torch.randn(SHAPE, generator=generator)

    target, start = noise(), noise()
    schedule = NoiseSchedule.scaled_linear()
    registry = SamplerCatalogue(samplers=[spec], schedulers=SCHEDULERS)
    plan = schedule_sampling(spec, SamplingParams(steps=steps), schedule, registry)
    low, high = plan.brownian_range
    brownian = BrownianNoise(SHAPE[1:], [1, 2], low, high, "CPU") if spec.brownian else None
    run = plan.sampler_run(noise=noise, brownian=brownian)
    return plan.sample(_Model(target, schedule, spec.kind), plan.start(start), run), target


class _Model:
    """Predicts the same clean latent for every input: the latent itself, or the noise that it implies."""

    def __init__(self, target: Tensor, schedule: NoiseSchedule, kind: str) -> None:
        self.target, self.schedule, self.kind = target, schedule, kind
        self.last_uncond_eps: Tensor | None = None

    def __call__(self, x: Tensor, level: Tensor, /) -> Tensor:
        if self.kind == "sigma":
            return self.target.to(x)
        step = level.round().long().clamp(0, len(self.schedule.alphas_cumprod) - 1)
        alpha = self.schedule.alphas_cumprod.to(x)[step].reshape(-1, 1, 1, 1)
        noise: Tensor = (x - alpha.sqrt() * self.target.to(x)) / (1 - alpha).sqrt()
        self.last_uncond_eps = noise
        return noise
