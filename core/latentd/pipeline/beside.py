"""A whole generation inside another job on the worker: a training's preview, say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latentd.errors import Interrupted
from latentd.types import GenerationRequest, ProgressState, Result, StopKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL.Image import Image

    from latentd.generations import UNetHook
    from latentd.types import JobControl


def check_generation(request: GenerationRequest, services: Any) -> None:
    """Refuse ``request`` now, from any thread, where :func:`draw_beside` would refuse it later.

    :raises LatentdError: as planning does.
    """
    from latentd.pipeline.planning.build import build_plan

    build_plan(request, services)


def draw_beside(
    request: GenerationRequest, services: Any, control: JobControl, *, hooks: Sequence[UNetHook] = ()
) -> Result:
    """The result of ``request``, drawn now as part of the job of ``control``; on the worker.

    It is planned and limited as every generation. The job's own progress stays as it is; its preview is that of the
    generation, what is not followed is warned of, and whatever stops the job stops the generation.

    :param hooks: take part in its UNet evaluations, as those of the hook ``unet_hooks`` do.
    :raises LatentdError: as planning and generating do. :raises Interrupted: the job was stopped meanwhile.
    """
    from latentd.pipeline.planning.build import build_plan
    from latentd.pipeline.run import generate

    return generate(build_plan(request, services), services, _Beside(control), hooks)


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

    def preview_due(self, options: Mapping[str, Any], *, batch_end: bool = False) -> bool:
        # The finished picture becomes the job's preview; steps in between would only cost time.
        return False

    def set_preview(self, image: Image) -> None:
        self._outer.set_preview(image)

    def warn(self, message: str) -> None:
        self._outer.warn(message)
        said = self.progress.warnings
        self.progress.warnings = (*said, message) if message not in said else said
