"""Drop-out by a source of chance of its own, so that a seed makes a training repeatable."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropOut(nn.Module):
    """Sets a share of the numbers to zero while training, and the others up, so that the mean stays.

    :param chance: which ones; on the device of what comes. The same one may be another's, too.
    """

    def __init__(self, share: float, chance: torch.Generator) -> None:
        super().__init__()
        self.share = share
        self._chance = chance

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape, with numbers dropped."""
        if not self.training or self.share == 0:
            return x
        kept = torch.rand(x.shape, generator=self._chance, device=x.device) >= self.share
        return x * kept / (1 - self.share)
