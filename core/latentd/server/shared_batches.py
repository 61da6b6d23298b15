"""Which generations share denoising batches, and how large those batches may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentd.engine.job import Conclude, Share
from latentd.generations import Plan
from latentd.pipeline.sharing_key import sharing_key, sharing_size

if TYPE_CHECKING:
    from latentd.engine.job import AnyJob
    from latentd.pipeline.needs import WorkerServices
    from latentd.server.model_setup import ServedModels
    from latentd.settings import Settings

#: Pictures of 512x512 in a shared batch of an accelerator.
ON_ACCELERATORS = 8


def share_limit(settings: Settings, models: ServedModels) -> float:
    """The largest shared batch, in pictures of 512x512; 0: batches are not shared. Imports no torch.

    A CPU gains nothing from larger batches, so sharing would only delay the first job. With ``--medvram``,
    ``--medvram-sdxl`` and ``--lowvram`` there is no memory for larger batches, nor for one job's VAE beside the UNet of
    the others.
    """
    policy = models.decided_policy
    if policy is None or policy.offload != "none" or policy.offload_sdxl:
        return 0
    if settings.share_batches is not None:
        return settings.share_batches
    return 0 if policy.device == "cpu" or "unet" in policy.cpu_parts else ON_ACCELERATORS


def share_of(plan: Plan, services: WorkerServices) -> Share | None:
    """How the job takes part in shared batches; None if it runs alone."""
    key = sharing_key(plan, services)
    if key is None or services.settings.share_batches == 0:
        return None

    def work(jobs: Sequence[AnyJob], conclude: Conclude) -> None:
        from latentd.pipeline.together import Member, generate_together

        def member(job: AnyJob) -> Member:
            assert job.share is not None
            assert isinstance(job.share.content, Plan)
            return Member(job.share.content, job, lambda result, error: conclude(job, result, error))

        generate_together([member(job) for job in jobs], services)

    return Share(key=key, size=sharing_size(plan), content=plan, work=work)
