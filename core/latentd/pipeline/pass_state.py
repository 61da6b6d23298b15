"""The state of a sampling pass, which the denoiser writes and previews, hooks and interrupts read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentd.types import PassName

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True, kw_only=True)
class PassState:
    """The state of a running pass.

    ``call_index`` counts the denoiser's finished calls; ``last_x0`` [B,4,h,w] is the newest prediction from the prompt
    without the negative prompt, which an interrupted pass returns and previews show.
    """

    steps: int
    pass_name: PassName
    call_index: int = 0
    last_x0: Tensor | None = None
    last_negative: Tensor | None = None
    last_combined: Tensor | None = None
    padded: str | None = None
