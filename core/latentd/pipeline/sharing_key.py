"""Which jobs may share denoising batches: told from their plans alone, and rather no than yes. No torch.

Two jobs share when their :func:`sharing_key` is the same. Each keeps its own prompts, seeds, variation seeds, CFG
scale, number of pictures, styles and saving; all that acts on the sampler's run or on the model's state is in the key.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from latentd.prompts.networks import extract_networks

if TYPE_CHECKING:
    from latentd.generations import Plan
    from latentd.pipeline.needs import WorkerServices

#: Hooks that see a generation before or during sampling: a plugin that has one may count on having the model to itself.
#: Those that come afterwards see pictures, and run job by job.
_HOOKS = (
    "before_process",
    "modify_conditioning",
    "unet_hooks",
    "before_batch",
    "before_step",
    "after_step",
    "modify_guidance",
    "after_sample",
    "after_batch",
)
#: Tags whose networks are told by the tag's words alone, and act alike on every row.
_NETWORKS = ("lora", "lyco", "hypernet")
#: Hypertile draws its tiles from the job's first seed, for the whole batch.
_HYPERTILE = ("hypertile_enable_unet", "hypertile_enable_unet_secondpass")
#: The area that counts as one picture, in pixels.
_PICTURE = 512 * 512


def sharing_key(plan: Plan, services: WorkerServices) -> tuple[object, ...] | None:
    """What two jobs must agree on to share denoising batches; None for a job that is carried out by itself."""
    options = plan.options
    networks = _networks(plan)
    alone = (
        networks is None
        # These bring passes, models or hooks of their own into the run.
        or plan.hires is not None
        or plan.refiner is not None
        or plan.script is not None
        or plan.alwayson
        or any(services.hooks.implemented(hook) for hook in _HOOKS)
        # The step length of such a sampler depends on the whole batch.
        or plan.sampler.spec.couples_batch
        # The model's convolutions are changed while such a job runs.
        or plan.tiling
        or any(options[key] for key in _HYPERTILE)
        # Whoever has the two prompts asked one after the other wants small batches.
        or not options["batch_cond_uncond"]
        # Lasting overrides change the options of the jobs behind.
        or not plan.request.override_settings_restore_afterwards
        # Networks of an earlier job stay where this is set.
        or plan.request.disable_extra_networks
    )
    if alone:
        return None
    return (
        # The model, its VAE and every way of computing: all options, whether they matter or not.
        plan.checkpoint,
        json.dumps(dict(options), sort_keys=True, default=repr),
        networks,
        # The sampler's run: its levels, and what it does between them.
        plan.request.mode,
        (plan.width, plan.height),
        plan.sampler,
        plan.steps,
        plan.eta,
        (plan.s_churn, plan.s_tmin, plan.s_tmax, plan.s_noise),
        # When the negative prompt is left out, so that rows stay in step.
        plan.s_min_uncond,
        # img2img: where in the levels the run begins.
        (plan.denoising_strength, plan.initial_noise_multiplier) if plan.is_img2img else None,
    )


def sharing_size(plan: Plan) -> float:
    """How much of a shared batch the job takes: the pictures of one of its batches, counted as of 512x512 pixels."""
    count = min(plan.batch_size, len(plan.prompts))
    return count * max(1.0, plan.width * plan.height / _PICTURE)


def _networks(plan: Plan) -> str | None:
    """The network tags that act; None when they differ between the job's batches, or are a plugin's."""
    found = [extract_networks(prompt)[1] for prompt in plan.prompts[:: plan.batch_size]]
    if any(tags != found[0] for tags in found) or any(tag.name not in _NETWORKS for tag in found[0]):
        return None
    return repr(found[0])
