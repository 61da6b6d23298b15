"""Several generations carried out side by side: their passes are sampled together, all else is each one's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from latentd.models.devices import free_cache, is_out_of_memory
from latentd.pipeline.run import new_generation, stages
from latentd.pipeline.sampling import resume, sample_together

if TYPE_CHECKING:
    from latentd.pipeline.generation import RunningGeneration
    from latentd.pipeline.plan import Plan
    from latentd.pipeline.sampling_pass import SamplingPass
    from latentd.types import Result

log = logging.getLogger(__name__)

#: Told what a generation gave: its result, or what it raised.
Conclude: TypeAlias = "Callable[[Result | None, BaseException | None], None]"


@torch.inference_mode()
def generate_together(members: Sequence[tuple[Plan, Any, Conclude]], services: Any) -> None:
    """Carry out generations whose plans have the same :func:`latentd.pipeline.sharing.sharing_key`.

    Each is concluded as soon as it has ended, however it did; none of its errors reaches the others.

    :param members: plan, job control, and whom to tell.
    """
    with ExitStack() as stack:
        going = []
        for plan, control, conclude in members:
            gen = new_generation(plan, services, control)
            # All are closed at the end, last first: leases of one model put back what they found.
            stack.callback(gen.close)
            going.append(_Member(gen, conclude))
        for member in going:
            member.go_on()
        while waiting := [m for m in going if m.waiting is not None]:
            _sample(waiting)


def _sample(members: Sequence[_Member]) -> None:
    """Sample the passes that ``members`` wait for, and let each go on."""
    asked = {id(m.waiting): m for m in members}
    passes = [m.waiting for m in members if m.waiting is not None]
    try:
        sample_together(passes, on_leave=lambda ended: asked[id(ended)].go_on())
    except Exception as error:
        if len(members) == 1:
            raise
        reason = "the device's memory is too small" if is_out_of_memory(error) else f"{type(error).__name__}: {error}"
        log.warning("a batch shared by %d jobs failed (%s); they go on one by one", len(members), reason)
        error.__traceback__ = None
        free_cache()
        for member, sampling in zip(members, passes, strict=True):
            if member.waiting is sampling:
                member.waiting = sampling.begun_anew()
                _sample([member])
        return
    for member, sampling in zip(members, passes, strict=True):
        if member.waiting is sampling:
            member.go_on()


class _Member:
    """One of the generations: the pass that it waits for, None when it has ended."""

    def __init__(self, gen: RunningGeneration, conclude: Conclude) -> None:
        self.waiting: SamplingPass | None = None
        self._stages = stages(gen)
        self._conclude = conclude

    def go_on(self) -> None:
        """Work on to the next pass, with the outcome of the one that was sampled, or to the end."""
        done, self.waiting = self.waiting, None
        try:
            self.waiting = next(self._stages) if done is None else resume(self._stages, done)
        except StopIteration as end:
            self._conclude(end.value, None)
        except BaseException as error:  # SystemExit from a plugin must not end the others
            self._conclude(None, error)
