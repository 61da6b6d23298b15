"""The base of the hooks of all kinds: when a unit acts, on which rows, and where in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from latentd.api import UNetCall, UNetHook
from latentd_controlnet.prepared import PreparedUnit

if TYPE_CHECKING:
    from latentd_controlnet.maps import UnitMaps

#: With soft weights, the factor for each layer further from the middle; and the number of the middle.
SOFTNESS, MIDDLE = 0.825, 12
ALWAYS_SOFT_IN_HIRES = ("canny", "mlsd")


class UnitHook(UNetHook):
    """Base of the hooks: one unit of one job.

    :ivar maps: set before the first pass.
    :cvar reads_tensors: whether it needs an encoder's output for the unit's picture rather than a control map.
    """

    reads_tensors = False

    def __init__(self, prepared: PreparedUnit) -> None:
        self.prepared = prepared
        self.maps: UnitMaps | None = None
        self._hints: dict[str, Tensor] = {}

    @property
    def weight(self) -> float:
        """The unit's weight."""
        return self.prepared.unit.weight

    def take(self, maps: UnitMaps) -> None:
        """Take the results of the unit's module.

        :raises InvalidRequest: they are not of the kind that the model reads.
        """
        unit, module = self.prepared.unit, self.prepared.module.name
        if unit.embedding is None and bool(maps.tensors) is not self.reads_tensors:
            if self.reads_tensors:
                words = f"model {unit.model} reads what CLIP sees, module {module} makes a picture"
                raise unit.error(words, hint="ip-adapter-auto is for IP-Adapters, clip_vision for T2I style")
            raise unit.error(
                f"model {unit.model} reads a control map, module {module} makes none", hint="as canny does"
            )
        self.maps = maps

    def acts(self, call: UNetCall) -> bool:
        """Whether the unit takes part in this evaluation."""
        return self.prepared.acts(call.step, call.steps, call.pass_name)

    def hint(self, call: UNetCall) -> Tensor:
        """The pass's control map [1,3|4,H,W] in 0 to 1."""
        return self.pass_hint(call.pass_name, call.sample.device)

    def pass_hint(self, name: str, device: torch.device) -> Tensor:
        """The control map of the pass called ``name``, as :meth:`hint`."""
        if name not in self._hints:
            assert self.maps is not None
            fitted = self.maps.fitted.get(name, self.maps.fitted["base"])
            self._hints[name] = torch.from_numpy(fitted.copy()).float().div(255).permute(2, 0, 1)[None].to(device)
        return self._hints[name]

    def is_soft(self, call: UNetCall) -> bool:
        """Whether soft weights are used in this pass: less influence for layers far from the middle."""
        forced = call.pass_name == "hires" and any(m in self.prepared.module.name for m in ALWAYS_SOFT_IN_HIRES)
        return self.prepared.is_soft or forced

    def rows(self, call: UNetCall, *, prompt_alone: bool = False) -> Tensor | float:
        """1 for the rows on which the unit acts [B,1,1,1]: all, or in mode 2 those with the prompt."""
        if not (prompt_alone or self.prepared.on_prompt_alone):
            return 1.0
        return call.is_cond[:, None, None, None].float()

    def in_region(self, residual: Tensor) -> Tensor:
        """``residual`` [B,C,h,w] multiplied by the unit's region mask."""
        region = self.prepared.region
        if region is None or residual.shape[-2:] == (1, 1):
            return residual
        mask = torch.from_numpy(region.copy()).float().div(255)[None, None].to(residual)
        return residual * F.interpolate(mask, size=residual.shape[-2:], mode="bilinear")

    def close(self) -> None:
        """Release what the hook has computed."""
        self.maps = None
        self._hints = {}


def soft_scales(weight: float, count: int) -> Sequence[float]:
    """Scales of ``count`` residuals in encoder order: ``weight·0.825^(12-i)``, also if there are fewer than 13."""
    return [weight * SOFTNESS ** (MIDDLE - index) for index in range(count)]
