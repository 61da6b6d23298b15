"""From a latent back to the noise from which it would be sampled: the first half of "img2img alternative test"."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentd.errors import InvalidRequest
from latentd.pipeline.generation import running
from latentd.pipeline.pass_state import PassState
from latentd.pipeline.passes.conditioning import condition_batch, model_view
from latentd.pipeline.passes.denoiser import Guidance, SigmaDenoiser
from latentd.pipeline.passes.runner import runner_session
from latentd.pipeline.passes.sampling_pass import noise_schedule

if TYPE_CHECKING:
    from latentd.generations import Generation, Img2imgStart
    from latentd.pipeline.generation import RunningGeneration
    from latentd.sampling.schedule import NoiseSchedule


def find_noise(
    generation: Generation, *, prompt: str, negative_prompt: str, cfg_scale: float, steps: int, by_sigma: bool
) -> tuple[Tensor, float]:
    """(noise [B,4,h,w], the highest sigma), by Euler steps from the init latent of an img2img job upwards.

    :param by_sigma: whether each step uses the slope at its lower end and the result is divided by the last sigma;
        otherwise the slope at the upper end is used, and the result is divided by the deviation of its values.
    :raises InvalidRequest: in txt2img, or before img2img is prepared.
    :raises Interrupted: the job was cancelled, interrupted or skipped.
    """
    gen, start = running(generation), generation.img2img
    if start is None:
        raise InvalidRequest("noise is found for img2img alone")
    schedule = noise_schedule(gen)
    sigmas = schedule.uniform_sigmas(steps).flip(0).to(gen.device)
    predict = _predictor(gen, start, prompt, negative_prompt, cfg_scale, steps, schedule)
    progress = gen.control.progress
    progress.job_count += 1
    progress.sampling_steps, progress.sampling_step = steps, 0
    x: Tensor = start.latent
    with runner_session(gen, "base"):
        for lower, upper in pairwise(sigmas):
            gen.control.check()
            progress.sampling_step += 1
            at = lower if by_sigma else upper
            # At sigma 0 the model predicts the latent itself, so the slope is 0.
            if at > 0:
                x = x + (x - predict(x, at)) / at * (upper - lower)
    gen.control.progress.next_job()
    return x / (sigmas[-1] if by_sigma else x.std()), float(sigmas[-1])


def _predictor(
    gen: RunningGeneration,
    start: Img2imgStart,
    prompt: str,
    negative: str,
    cfg: float,
    steps: int,
    schedule: NoiseSchedule,
) -> Callable[[Tensor, Tensor], Tensor]:
    count = start.latent.shape[0]
    plan = gen.plan
    before = gen.conditioned_on, gen.conditioning
    size = (plan.width, plan.height)
    conditioning = condition_batch(gen, [prompt] * count, [negative] * count, steps=steps, size=size)
    gen.conditioned_on, gen.conditioning = before
    denoiser = SigmaDenoiser(
        view=model_view(gen, gen.model, conditioning, concat=start.concat),
        schedule=schedule,
        guidance=Guidance(cfg_scale=cfg),
        state=PassState(steps=steps, pass_name="base"),
        hooks=gen.unet_hooks,
    )

    def predict(x: Tensor, sigma: Tensor) -> Tensor:
        denoiser.state.call_index = 0
        return denoiser(x, sigma * torch.ones(x.shape[0], device=x.device))

    return predict
