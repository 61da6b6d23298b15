"""The refiner: a second checkpoint that takes over in the middle of a pass (rules: a1111-refiner)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from latentd.generations import RefinerPlan
from latentd.pipeline.passes.denoiser import CfgDenoiser, ModelView

if TYPE_CHECKING:
    from latentd.pipeline.generation import RunningGeneration


class Refiner:
    """Replaces the denoiser's view when the refiner takes over; one object serves one batch.

    :param plan: which checkpoint takes over, and when.
    :param make_view: loads the refiner and makes its conditioning; called once, at the switch, with the base model's
        further input channels.
    """

    def __init__(self, plan: RefinerPlan, make_view: Callable[[Tensor | None], ModelView]) -> None:
        self.plan = plan
        self._make_view = make_view
        self.switched = False

    def maybe_switch(self, gen: RunningGeneration, denoiser: CfgDenoiser, level: Tensor, total_steps: int) -> None:
        """Switch to the refiner if the finished share of the schedule has reached ``switch_at``."""
        if self.switched or gen.model.info.title == self.plan.checkpoint or not self._pass_allows(gen):
            return
        by_steps = bool(gen.options["refiner_switch_by_sample_steps"])
        if by_steps:
            gen.infotext["Refiner switch by sampling steps"] = True
            done = denoiser.state.call_index / max(total_steps, 1)
        else:
            done = (999 - _timestep(denoiser, level)) / 1000
        if self.plan.switch_at is not None and done < self.plan.switch_at:
            return
        if gen.plan.hires is not None and gen.options["hires_fix_refiner_pass"] != "second pass":
            gen.infotext["Hires refiner"] = gen.options["hires_fix_refiner_pass"]
        self.switched = True
        denoiser.view = self._make_view(denoiser.view.concat)

    def _pass_allows(self, gen: RunningGeneration) -> bool:
        if gen.plan.hires is None:
            return True
        wanted = gen.options["hires_fix_refiner_pass"]
        return wanted == "both passes" or bool(wanted == ("second pass" if gen.pass_name == "hires" else "first pass"))


def _timestep(denoiser: CfgDenoiser, level: Tensor) -> int:
    """The model's timestep for a level: the index of the nearest sigma, or the level itself if it is a timestep."""
    from latentd.pipeline.passes.denoiser import TimestepDenoiser

    if isinstance(denoiser, TimestepDenoiser):
        return int(level.max())
    sigmas = denoiser.schedule.sigmas.to(level.device)
    return int((sigmas - level.max()).abs().argmin())
