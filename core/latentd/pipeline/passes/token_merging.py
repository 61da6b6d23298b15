"""Token merging in self-attention (options ``token_merging_ratio*``): similar positions attend as one.

Source: Bolya and Hoffman, "Token Merging for Fast Stable Diffusion" (2023), without its random choice: in each 2x2 cell
the first position stays, and the most similar of the others are merged into the most similar position that stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentd.generations import UNetHook
from latentd.models.modules.attention import LAYER_INPUT
from latentd.types import AttentionHandler, AttentionSite, UNetCall

if TYPE_CHECKING:
    from latentd.types import Attend, OptionValues

STRIDE = 2


def token_merging_ratio(options: OptionValues, *, img2img: bool, hires: bool) -> float:
    """The ratio for a pass: that of the option for hires passes or img2img if it is not 0, else the general one."""
    own = options["token_merging_ratio_hr"] if hires else options["token_merging_ratio_img2img"]
    return float(own if (hires or img2img) and own else options["token_merging_ratio"])


class TokenMerging(UNetHook):
    """Merges positions at sites of the finest level, which see every position of the latent.

    :param ratio: the part of the positions to merge, 0 to 0.75.
    """

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio

    def attention(self, site: AttentionSite) -> AttentionHandler | None:
        """A handler for self-attention at the finest level; None for other sites."""
        return self._attend if site.kind == "self" else None

    def _attend(self, call: UNetCall, hidden: Tensor, context: Tensor | None, attend: Attend) -> Tensor:
        height, width = call.sample.shape[-2:]
        if context is not None or hidden.shape[1] != height * width:
            return attend(hidden, context)
        merge = match(call.tags[LAYER_INPUT], height, width, int(hidden.shape[1] * self.ratio))
        return merge.undo(attend(merge.apply(hidden), None))


@dataclass(frozen=True, slots=True)
class Merge:
    """Which positions of [B,n,...] join which.

    ``stay`` [s] and ``others`` [n-s] are positions; ``kept`` [B,n-s-r] and ``joined`` [B,r] index ``others``, and
    ``target`` [B,r] is the index in ``stay`` that each joined one goes to.
    """

    stay: Tensor
    others: Tensor
    kept: Tensor
    joined: Tensor
    target: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """[B,n-r,C]: the kept positions, then the staying ones, each the mean of itself and those merged into it."""
        moving, staying = x[:, self.others], x[:, self.stay]
        means = staying.scatter_reduce(1, _wide(self.target, x), _take(moving, self.joined), reduce="mean")
        return torch.cat([_take(moving, self.kept), means], dim=1)

    def undo(self, y: Tensor) -> Tensor:
        """[B,n,C]: every position with the row of the position into which it was merged."""
        kept, staying = y[:, : self.kept.shape[1]], y[:, self.kept.shape[1] :]
        out = y.new_empty(y.shape[0], len(self.stay) + len(self.others), y.shape[2])
        out[:, self.stay] = staying
        out.scatter_(1, _wide(self.others[self.kept], y), kept)
        return out.scatter_(1, _wide(self.others[self.joined], y), _take(staying, self.target))


def match(x: Tensor, height: int, width: int, count: int) -> Merge:
    """The merge of ``count`` positions of ``x`` [B,height*width,C], chosen by the cosine of their vectors."""
    stay, others = (t.to(x.device) for t in _cells(height, width))
    unit = x / x.norm(dim=-1, keepdim=True)
    closeness, target = (unit[:, others] @ unit[:, stay].transpose(1, 2)).max(dim=-1)
    order = closeness.argsort(dim=-1, descending=True)
    count = min(count, len(others))
    joined = order[:, :count]
    return Merge(stay, others, order[:, count:], joined, target.gather(1, joined))


@lru_cache(maxsize=32)
def _cells(height: int, width: int) -> tuple[Tensor, Tensor]:
    """(first positions of the whole 2x2 cells, all other positions), in reading order."""
    first = torch.zeros(height, width, dtype=torch.bool)
    first[: height // STRIDE * STRIDE : STRIDE, : width // STRIDE * STRIDE : STRIDE] = True
    return first.flatten().nonzero()[:, 0], (~first).flatten().nonzero()[:, 0]


def _take(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(1, _wide(index, x))


def _wide(index: Tensor, like: Tensor) -> Tensor:
    return index[..., None].expand(-1, -1, like.shape[-1])
