"""A UNet's deep features, reused between steps while its shallow ones hardly change (option ``step_cache_threshold``).

Source: Ma, Fang and Wang, "DeepCache: Accelerating Diffusion Models for Free" (2023): between neighbouring steps the
deep features of a UNet differ far less than the shallow ones. There they are reused in every n-th step; here as long as
the change since they were computed is below a threshold, so that the steps in which the picture takes shape are whole.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor

from latentd.types import UNetCall

#: Blocks on either side that are evaluated in every step.
SHALLOW = 2


@dataclass(frozen=True, slots=True)
class _Kept:
    shallow: Tensor
    deep: Tensor


class StepCache:
    """The deep features of one sampling pass.

    :param threshold: the relative change of the shallow features, ``mean|h - kept| / mean|kept|``, from which on the
        deep ones are computed anew.
    :ivar reused: number of calls in which deep features were reused. :ivar computed: and of those in which not.
    :ivar passed_over: number of calls in which residuals or handlers took part, so that nothing was kept or reused.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.reused = self.computed = self.passed_over = 0
        self._kept: dict[Hashable, _Kept] = {}

    def reuse(self, call: UNetCall, shallow: Tensor) -> Tensor | None:
        """The deep features [B,C,h,w] that may serve ``call``, whose last shallow ones are ``shallow`` [B,C',h,w]."""
        kept = self._kept.get(_rows(call))
        if kept is None or kept.shallow.shape != shallow.shape:
            return None
        # The row that changed most decides for all.
        apart, size = (x.abs().flatten(1).mean(1) for x in (shallow - kept.shallow, kept.shallow))
        if bool((apart > self.threshold * size).any()):
            return None
        self.reused += 1
        return kept.deep

    def keep(self, call: UNetCall, shallow: Tensor, deep: Tensor) -> None:
        """Remember what was computed for ``call``."""
        self.computed += 1
        self._kept[_rows(call)] = _Kept(shallow, deep)


def _rows(call: UNetCall) -> Hashable:
    """What tells one call of a step from another: its pictures and their prompts."""
    return call.pass_name, call.refiner, tuple(call.image_index.tolist()), tuple(call.is_cond.tolist())
