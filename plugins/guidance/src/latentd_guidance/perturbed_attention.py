"""Perturbed-Attention Guidance (Ahn et al. 2024, arXiv 2403.17377).

It guides away from the prediction that the prompt gives when each place in the middle block's self-attention attends
only to itself. It costs a further evaluation of the prompt at each step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.api import Attend, AttentionHandler, AttentionSite, Generation, GuidedStep, UNetCall, UNetHook
from latentd_guidance.technique import Arguments, Technique, share_of_steps, slider

if TYPE_CHECKING:
    from torch import Tensor

_PASS = "perturbed attention"


class PerturbedAttentionArgs(Arguments):
    """``attenuation`` is the percentage of ``scale`` lost at each step; ``start`` and ``end`` are shares."""

    scale: float = slider(3.0, "Scale", 0, 100, 0.1)
    attenuation: float = slider(0.0, "Attenuation (linear, % of scale)", 0, 100, 0.1)
    start_step: float = slider(0.0, "Start step", 0, 1, 0.01)
    end_step: float = slider(1.0, "End step", 0, 1, 0.01)


class PerturbedAttention(Technique[PerturbedAttentionArgs]):
    """Better structure, also with a short prompt or none."""

    title = "PerturbedAttentionGuidance Integrated (SD 1.x, SD 2.x, SDXL)"
    aliases = (
        "PerturbedAttentionGuidance Integrated",
        "PerturbedAttentionGuidance Integrated (SD1.x, SD2.x, SDXL)",
        "Perturbed Attention Guidance Integrated",
    )
    prefix = "pagi_"
    Args = PerturbedAttentionArgs

    def hook(self, generation: Generation, args: PerturbedAttentionArgs) -> UNetHook:
        """The hook that acts in each evaluation of the UNet in this job."""
        return PerturbedAttentionHook(args)


class PerturbedAttentionHook(UNetHook):
    """``x0 + scale * (cond - perturbed)``; ``perturbed`` is the prediction with the identity as attention map."""

    def __init__(self, args: PerturbedAttentionArgs) -> None:
        self.args = args
        self.scale = args.scale

    def open(self, generation: Generation) -> None:
        """Restore the whole scale at the start of each pass."""
        self.scale = self.args.scale

    def attention(self, site: AttentionSite) -> AttentionHandler | None:
        """A handler for each self-attention of the middle block."""
        return self._attend if (site.block, site.kind) == ("middle_block", "self") else None

    def _attend(self, call: UNetCall, hidden: Tensor, context: Tensor | None, attend: Attend) -> Tensor:
        if call.tags.get("pass") != _PASS:
            return attend(hidden, context)
        module = attend.module
        values: Tensor = module.to_out[0](module.to_v(hidden))
        return values

    def guide(self, step: GuidedStep, x0: Tensor) -> Tensor:
        """Equation 13 of the paper, on predictions of the clean latent."""
        args, call = self.args, step.call
        if self.scale <= 0 or not args.start_step <= share_of_steps(call) <= args.end_step:
            return x0
        perturbed = step.predict(step.latent, positive=True, tag=_PASS)
        guided = x0 + (step.cond - perturbed) * self.scale
        self.scale -= args.scale * args.attenuation / 100
        return guided
