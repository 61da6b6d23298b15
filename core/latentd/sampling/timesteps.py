"""The timesteps at which DDIM, PLMS and UniPC work."""

from __future__ import annotations

import torch
from torch import Tensor

_TRAINED = 1000


def build_timesteps(steps: int, discard_next_to_last: bool = False) -> Tensor:
    """Ascending integer timesteps, ``(n,)`` int64: every ``1000 // steps``-th, plus one, at most 999.

    There can be more of them than steps (31 for 30 steps).

    :param steps: more than 1000 count as 1000.
    :param discard_next_to_last: option ``always_discard_next_to_last_sigma``: one step more, and none removed.
    """
    stride = max(_TRAINED // max(steps + discard_next_to_last, 1), 1)
    return (torch.arange(0, _TRAINED, stride) + 1).clamp(0, _TRAINED - 1)
