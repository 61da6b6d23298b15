"""A whole generation inside another job on the worker: a training's preview, or a part of a generation's picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.errors import Interrupted
from latentd.types import GenerationRequest, ProgressState, Result, StopKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from latentd.generations import Generation, Plan, UNetHook
    from latentd.services import Services
    from latentd.types import JobControl, OptionValues


def check_generation(request: GenerationRequest, services: Services) -> None:
    """Refuse ``request`` now, from any thread, where :func:`draw_beside` would refuse it later.

    :raises LatentdError: as planning does.
    """
    from latentd.pipeline.needs import for_planning
    from latentd.pipeline.planning.build import build_plan

    build_plan(request, for_planning(services))


def draw_beside(
    request: GenerationRequest, services: Services, control: JobControl, *, hooks: Sequence[UNetHook] = ()
) -> Result:
    """The result of ``request``, drawn now as part of the job of ``control``; on the worker.

    It is planned and limited as every generation. The job's own progress stays as it is; its preview is that of the
    generation, what is not followed is warned of, and whatever stops the job stops the generation.

    :param hooks: take part in its UNet evaluations, as those of the hook ``unet_hooks`` do.
    :raises LatentdError: as planning and generating do. :raises Interrupted: the job was stopped meanwhile.
    """
    from latentd.pipeline.needs import for_worker
    from latentd.pipeline.planning.build import build_plan
    from latentd.pipeline.run import generate

    known = for_worker(services)
    return generate(build_plan(request, known), known, _Beside(control), hooks)


def plan_within(plan: Plan, request: GenerationRequest, services: Services) -> Plan:
    """The plan of a generation within that of ``plan``, with the options of its job.

    A script calls it in its own ``plan`` to refuse what :func:`draw_within` would refuse later.

    :raises LatentdError: as planning does.
    """
    from latentd.pipeline.needs import for_planning
    from latentd.pipeline.planning.replan import replan

    return replan(plan, request, for_planning(services))


def draw_within(generation: Generation, request: GenerationRequest) -> Result:
    """The result of ``request``, drawn now as a part of ``generation``; on the worker, when its batch is decoded.

    It has the options of the job, counts in its progress, shows its previews, and is stopped with it; nothing of it is
    saved. After an interrupt its result has no pictures.

    :raises LatentdError: as planning and generating do. :raises Interrupted: the job was cancelled.
    """
    from dataclasses import replace

    from latentd.pipeline.generation import running
    from latentd.pipeline.run import generate

    gen = running(generation)
    plan = plan_within(gen.plan, replace(request, save_images=False), gen.services)
    gen.control.progress.job_count += plan.n_iter * (2 if plan.hires else 1)
    return generate(plan, gen.services, gen.control, within=True)


class _Beside:
    """The job's control with a progress of its own. Implements :class:`latentd.types.JobControl`."""

    def __init__(self, outer: JobControl) -> None:
        self._outer = outer
        self.id = outer.id
        self.progress = ProgressState(job=outer.progress.job, job_count=-1, job_timestamp=outer.progress.job_timestamp)

    def check(self) -> None:
        if (stop := self.stop_requested()) is not None:
            raise Interrupted(f"{self.id}: {stop}")

    def stop_requested(self) -> StopKind | None:
        return self._outer.stop_requested()

    def begin_batch(self) -> bool:
        return self._outer.begin_batch()

    def preview_due(self, options: OptionValues, *, batch_end: bool = False) -> bool:
        # The finished picture becomes the job's preview; steps in between would only cost time.
        return False

    def set_preview(self, image: Image) -> None:
        self._outer.set_preview(image)

    def warn(self, message: str) -> None:
        self._outer.warn(message)
        said = self.progress.warnings
        self.progress.warnings = (*said, message) if message not in said else said
