"""Running several generations side by side: their passes are sampled together, everything else is done for each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from latentd.models.devices import free_cache, is_out_of_memory
from latentd.pipeline.passes.sampling import resume, sample_together
from latentd.pipeline.run import new_generation, stages

if TYPE_CHECKING:
    from latentd.generations import Plan
    from latentd.pipeline.generation import RunningGeneration
    from latentd.pipeline.needs import WorkerServices
    from latentd.pipeline.passes.sampling_pass import SamplingPass
    from latentd.types import JobControl, Result

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """One of the generations, and the function that gets its result or its exception."""

    plan: Plan
    control: JobControl
    conclude: Callable[[Result | None, BaseException | None], None]


@torch.inference_mode()
def generate_together(members: Sequence[Member], services: WorkerServices) -> None:
    """Run generations whose plans have the same :func:`latentd.pipeline.sharing_key.sharing_key`.

    Each is concluded as soon as it has ended in any way; its errors do not affect the others.
    """
    with ExitStack() as stack:
        going = []
        for member in members:
            gen = new_generation(member.plan, services, member.control)
            # All are closed at the end, the last first, because each lease of a model restores the state before it.
            stack.callback(gen.close)
            going.append(_Progress(gen, member.conclude))
        for generation in going:
            generation.advance()
        while waiting := [c for c in going if c.waiting is not None]:
            _sample(waiting)


def _sample(running: Sequence[_Progress]) -> None:
    """Sample the passes that ``running`` wait for, and continue each of them."""
    asked = {id(c.waiting): c for c in running}
    passes = [c.waiting for c in running if c.waiting is not None]
    try:
        sample_together(passes, on_leave=lambda ended: asked[id(ended)].advance())
    except Exception as error:
        if len(running) == 1:
            raise
        reason = "the device's memory is too small" if is_out_of_memory(error) else f"{type(error).__name__}: {error}"
        log.warning("a batch shared by %d jobs failed (%s); they go on one by one", len(running), reason)
        error.__traceback__ = None
        free_cache()
        for generation, sampling in zip(running, passes, strict=True):
            if generation.waiting is sampling:
                generation.restart_pass()
                _sample([generation])
        return
    for generation, sampling in zip(running, passes, strict=True):
        if generation.waiting is sampling:
            generation.advance()


class _Progress:
    """A generation in progress, and the pass that it waits for; None if it has ended."""

    def __init__(self, gen: RunningGeneration, conclude: Callable[[Result | None, BaseException | None], None]) -> None:
        self.waiting: SamplingPass | None = None
        self._stages = stages(gen)
        self._conclude = conclude

    def restart_pass(self) -> None:
        """Reset the pass that the generation waits for to its beginning."""
        assert self.waiting is not None
        self.waiting = self.waiting.begun_anew()

    def advance(self) -> None:
        """Continue with the outcome of the sampled pass up to the next pass, or to the end."""
        done, self.waiting = self.waiting, None
        try:
            self.waiting = next(self._stages) if done is None else resume(self._stages, done)
        except StopIteration as end:
            self._conclude(end.value, None)
        except BaseException as error:  # not even SystemExit from a plugin may end the others
            self._conclude(None, error)
