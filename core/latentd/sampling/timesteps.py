"""The timesteps at which DDIM, PLMS and UniPC work."""

from __future__ import annotations

import torch
from torch import Tensor

_TRAINED = 1000


def build_timesteps(steps: int, discard_next_to_last: bool = False) -> Tensor:
    """Return ascending integer timesteps, ``(n,)`` int64: every ``1000 // steps``-th, plus one, at most 999.

    There can be more of them than steps (31 for 30).

    :param steps: 1 to 1000 steps; more are as 1000.
    :param discard_next_to_last: option ``always_discard_next_to_last_sigma``: plans one step more, removes none.
    """
    stride = max(_TRAINED // max(steps + discard_next_to_last, 1), 1)
    return (torch.arange(0, _TRAINED, stride) + 1).clamp(0, _TRAINED - 1)
