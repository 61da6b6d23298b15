"""Where a sampling pass stands: written by the denoiser, read by previews, hooks and whoever stops the pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentd.types import PassName

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True, kw_only=True)
class PassState:
    """What the outside may watch while a pass runs.

    ``call_index`` counts answers given; ``last_x0`` [B,4,h,w] is the newest prediction from the prompt alone, which an
    interrupted pass returns and previews show.
    """

    steps: int
    pass_name: PassName
    call_index: int = 0
    last_x0: Tensor | None = None
    last_negative: Tensor | None = None
    last_combined: Tensor | None = None
    padded: str | None = None
