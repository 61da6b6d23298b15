"""Which jobs may share denoising batches, decided from their plans only and, in doubt, against sharing. No torch.

Two jobs share batches if their :func:`sharing_key` is equal. Prompts, seeds, variation seeds, CFG scale, number of
pictures, styles and saving may differ; everything that influences the sampler's run or the model's state is in the key.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from latentd.prompts.networks import extract_networks

if TYPE_CHECKING:
    from latentd.generations import Plan
    from latentd.pipeline.needs import WorkerServices

#: Hooks that run before or during sampling; plugins with one of them may expect to be the only user of the model. Later
#: hooks get pictures and run job by job.
SAMPLING_HOOKS = (
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
#: Tags whose networks depend only on the text of the tag and have the same effect on every row.
NETWORKS = ("lora", "lyco", "hypernet")
#: Options of Hypertile, which draws its tiles for the whole batch from the job's first seed.
HYPERTILE = ("hypertile_enable_unet", "hypertile_enable_unet_secondpass")
#: The area that counts as one picture, in pixels.
_PICTURE = 512 * 512


def sharing_key(plan: Plan, services: WorkerServices) -> tuple[object, ...] | None:
    """A value that is equal for jobs that may share denoising batches; None for a job that must run by itself."""
    options = plan.options
    networks = _networks(plan)
    alone = (
        networks is None
        # These add passes, models or hooks to the run.
        or plan.hires is not None
        or plan.refiner is not None
        or plan.script is not None
        or plan.alwayson
        or any(services.hooks.implemented(hook) for hook in SAMPLING_HOOKS)
        # The step length of such a sampler depends on the whole batch.
        or plan.sampler.spec.couples_batch
        # The model's convolutions are changed while such a job runs.
        or plan.tiling
        or any(options[key] for key in HYPERTILE)
        # Separate calls for prompt and negative prompt are asked for in order to have small batches.
        or not options["batch_cond_uncond"]
        # Overrides that stay after the request change the options of later jobs.
        or not plan.request.override_settings_restore_afterwards
        # With this option, networks of an earlier job stay.
        or plan.request.disable_extra_networks
    )
    if alone:
        return None
    return (
        # The model, its VAE and how it computes: all options, whether they matter or not.
        plan.checkpoint,
        json.dumps(dict(options), sort_keys=True, default=repr),
        networks,
        # The sampler's run: its levels, and its steps between them.
        plan.request.mode,
        (plan.width, plan.height),
        plan.sampler,
        plan.steps,
        plan.eta,
        (plan.s_churn, plan.s_tmin, plan.s_tmax, plan.s_noise),
        # When the negative prompt is left out, so that all rows are evaluated in the same calls.
        plan.s_min_uncond,
        # img2img: the level at which the run begins.
        (plan.denoising_strength, plan.initial_noise_multiplier) if plan.is_img2img else None,
    )


def sharing_size(plan: Plan) -> float:
    """The job's size in a shared batch: the pictures of one of its batches, counted in pictures of 512x512 pixels."""
    count = min(plan.batch_size, len(plan.prompts))
    return count * max(1.0, plan.width * plan.height / _PICTURE)


def _networks(plan: Plan) -> str | None:
    """The network tags that have an effect; None if they differ between the job's batches, or belong to a plugin."""
    found = [extract_networks(prompt)[1] for prompt in plan.prompts[:: plan.batch_size]]
    if any(tags != found[0] for tags in found) or any(tag.name not in NETWORKS for tag in found[0]):
        return None
    return repr(found[0])
