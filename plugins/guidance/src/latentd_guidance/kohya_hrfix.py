"""Kohya's deep shrink: the composition of a large picture as in one of the trained size.

Early in sampling, the UNet's inner blocks work on features that are made smaller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from latentd.api import BlockHandler, BlockSite, EntryHandler, Generation, UNetCall, UNetHook
from latentd_guidance.resizing import resize_features
from latentd_guidance.technique import Arguments, Technique, slider

if TYPE_CHECKING:
    from torch import Tensor

Method = Literal["bicubic", "nearest-exact", "bilinear", "area", "bislerp"]
LAST_TIMESTEP = 999


class KohyaHRFixArgs(Arguments):
    """``block_number`` is the input block, in LDM's numbering, at which features shrink; the percents are shares."""

    block_number: int = slider(3, "Block Number", 1, 32, 1, ge=0)
    downscale_factor: float = slider(2.0, "Downscale Factor", 0.1, 9, 0.001, ge=0.1, le=64)
    start_percent: float = slider(0.0, "Start Percent", 0, 1, 0.001)
    end_percent: float = slider(0.35, "End Percent", 0, 1, 0.001)
    downscale_after_skip: bool = Field(True, title="Downscale After Skip")
    downscale_method: Method = Field("bicubic", title="Downscale Method")
    upscale_method: Method = Field("bicubic", title="Upscale Method")


class KohyaHRFix(Technique[KohyaHRFixArgs]):
    """One subject instead of several in pictures larger than the model was trained on."""

    title = "Kohya HRFix Integrated"
    prefix = "kohya_hrfix_"
    Args = KohyaHRFixArgs

    def hook(self, generation: Generation, args: KohyaHRFixArgs) -> UNetHook:
        """The hook that acts in each evaluation of the UNet in this job."""
        return KohyaHRFixHook(args, generation)


class KohyaHRFixHook(UNetHook):
    """Shrinks the output of one input block, and enlarges the decoder's features again to fit each skip connection.

    The output shrinks before or after it is stored for the skip connection.
    """

    def __init__(self, args: KohyaHRFixArgs, generation: Generation) -> None:
        self.args = args
        self._generation = generation
        self._block = f"input_blocks.{args.block_number}"
        self._found = False
        self._last_input = ""

    def block(self, site: BlockSite) -> BlockHandler | None:
        """A handler for the block whose output shrinks before it is stored."""
        if site.name != self._block:
            return None
        self._found = True
        return None if self.args.downscale_after_skip else self._shrink_output

    def entry(self, site: BlockSite) -> EntryHandler | None:
        """A handler for the block behind it, if the output shrinks after it is stored, and for every output block."""
        if site.kind == "output":
            return self._restore
        behind = self._last_input == self._block
        self._last_input = site.name
        return self._shrink_entry if behind and self.args.downscale_after_skip else None

    def before(self, call: UNetCall) -> None:
        """Warn once when the model has no such block."""
        if not self._found:
            self._generation.warn(f"Kohya HRFix: this model has no {self._block}; nothing shrinks")
            self._found = True

    def _acts(self, call: UNetCall) -> bool:
        timestep = float(call.timestep[0])
        args = self.args
        started = args.start_percent <= 0 or timestep <= (1 - args.start_percent) * LAST_TIMESTEP
        ended = args.end_percent <= 0 or timestep < (1 - args.end_percent) * LAST_TIMESTEP
        return started and not ended

    def _shrink(self, call: UNetCall, hidden: Tensor) -> Tensor:
        if not self._acts(call):
            return hidden
        size = [max(1, round(side / self.args.downscale_factor)) for side in hidden.shape[-2:]]
        return resize_features(hidden, size, self.args.downscale_method)

    def _shrink_output(self, call: UNetCall, output: Tensor) -> Tensor:
        return self._shrink(call, output)

    def _shrink_entry(self, call: UNetCall, hidden: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return self._shrink(call, hidden), skip

    def _restore(self, call: UNetCall, hidden: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if skip is None or hidden.shape[-2:] == skip.shape[-2:] or not self._acts(call):
            return hidden, skip
        return resize_features(hidden, list(skip.shape[-2:]), self.args.upscale_method), skip
