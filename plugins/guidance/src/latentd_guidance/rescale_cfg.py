"""Rescaled guidance (Lin et al. 2023, arXiv 2305.08891: "Rescale Classifier-Free Guidance").

It gives the guided prediction the standard deviation of the prompt's own. Models with v-prediction and zero terminal
SNR need it: without it they over-expose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from latentd.api import Generation, GenerationRequest, GuidedStep, RawArgs, UNetHook
from latentd_guidance.technique import Arguments, Technique, slider

if TYPE_CHECKING:
    from torch import Tensor


class RescaleCFGArgs(Arguments):
    """``multiplier`` is the rescaled prediction's share; ``Alternative`` lowers it where rescaling changes little."""

    enabled: bool = Field(False, title="Enable RescaleCFG")
    version: Literal["Normal", "Alternative"] = Field("Normal", title="RescaleCFG Version")
    multiplier: float = slider(0.7, "RescaleCFG Multiplier", 0, 1, 0.01)


class RescaleCFG(Technique[RescaleCFGArgs]):
    """Contrast and colours of the prompt's own prediction at any CFG scale."""

    title = "RescaleCFG for reForge"
    aliases = ("RescaleCFG", "RescaleCFG Integrated")
    prefix = "rescale_cfg_"
    unwritten = frozenset({"version"})
    Args = RescaleCFGArgs

    def parse_args(self, args: RawArgs, request: GenerationRequest) -> RescaleCFGArgs | None:
        """Parse the arguments; also those of the first version, which were only (enabled, multiplier)."""
        if isinstance(args, (list, tuple)) and len(args) == 2 and not isinstance(args[1], str):
            args = {"enabled": args[0], "multiplier": args[1]}
        return super().parse_args(args, request)

    def hook(self, generation: Generation, args: RescaleCFGArgs) -> UNetHook:
        """The hook that acts in each evaluation of the UNet in this job."""
        return RescaleCFGHook(args)


class RescaleCFGHook(UNetHook):
    """Adds the difference from plain guidance to the prediction so far, so that other techniques keep their effect."""

    def __init__(self, args: RescaleCFGArgs) -> None:
        self.args = args

    def guide(self, step: GuidedStep, x0: Tensor) -> Tensor:
        """Equations 15 and 16 of the paper, on predictions of v."""
        if step.uncond is None or self.args.multiplier == 0 or float(step.sigma[0]) == 0:
            return x0
        sigma = step.sigma[:, None, None, None]
        # x0 = x / (sigma^2 + 1) - v * sigma / sqrt(sigma^2 + 1)
        base, unit = step.latent / (sigma**2 + 1), sigma / (sigma**2 + 1) ** 0.5
        cond, uncond = ((base - clean) / unit for clean in (step.cond, step.uncond))
        guided = uncond + (cond - uncond) * step.cfg_scale
        rescaled = rescale(guided, cond, self.args.multiplier, alternative=self.args.version == "Alternative")
        return x0 - (rescaled - guided) * unit


def rescale(guided: Tensor, cond: Tensor, share: float, *, alternative: bool) -> Tensor:
    """``guided`` [B,C,h,w], mixed by ``share`` with itself at each picture's standard deviation of ``cond``."""
    import torch

    deviation = guided.std(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(guided.dtype).tiny)
    ratio = cond.std(dim=(1, 2, 3), keepdim=True) / deviation
    weight = share * (1 - ratio**2) if alternative else share
    return guided * (ratio * weight + (1 - weight))
