"""Attention processors of the UNet, which call the handlers of hooks; installed once when the model is loaded.

The handlers of a job are in :class:`AttentionDispatch`, so that modules need not be changed for a job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentd.models.untyped import DiffusersAttention, DiffusersUNet
from latentd.types import AttentionHandler, AttentionSite, UNetCall

if TYPE_CHECKING:
    from latentd.models.modules.unet_block import Block


#: Pairs of a query and a key of one head that the CPU works on between two checks: about a second of one core.
MOST_PAIRS = 1 << 26
#: Key of ``UNetCall.tags``: hidden states [B,n,width] at the input of the transformer layer that is running.
LAYER_INPUT = "layer_input"


@dataclass(slots=True)
class AttentionDispatch:
    """The handlers of the present sampling pass by the name of the site, and the call that is being evaluated."""

    handlers: dict[str, list[AttentionHandler]] = field(default_factory=dict)
    call: UNetCall | None = None
    upcast: bool = False

    def reset(self) -> None:
        """Remove the handlers and the call."""
        self.handlers, self.call, self.upcast = {}, None, False


@dataclass(frozen=True, slots=True)
class BaseAttention:
    """The attention as trained, over contexts that the caller chooses. Implements ``latentd.types.Attend``.

    From hidden states [B,n,width] and contexts [B,m,d] to [B,n,width].
    """

    module: DiffusersAttention
    upcast: bool
    check: Callable[[], None] | None = None

    def __call__(self, hidden: Tensor, key_context: Tensor | None, value_context: Tensor | None = None) -> Tensor:
        """The output [B,n,width]."""
        attn = self.module
        keys = hidden if key_context is None else key_context
        values = keys if value_context is None else value_context
        q, k, v = (_heads(t, attn.heads) for t in (attn.to_q(hidden), attn.to_k(keys), attn.to_v(values)))
        dtype = q.dtype
        if self.upcast:
            q, k, v = q.float(), k.float(), v.float()
        out = _attend(q, k, v, self.check).to(dtype)
        out = out.transpose(1, 2).flatten(2)
        return attn.to_out[0](out)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class _Chained:
    """The remaining handlers of a site, as a function that a handler can call."""

    rest: Sequence[AttentionHandler]
    base: BaseAttention
    call: UNetCall

    @property
    def module(self) -> DiffusersAttention:
        return self.base.module

    def __call__(self, hidden: Tensor, key_context: Tensor | None, value_context: Tensor | None = None) -> Tensor:
        # After a handler that uses separate contexts for keys and values, no further handler is called.
        if not self.rest or value_context is not None:
            return self.base(hidden, key_context, value_context)
        return self.rest[0](self.call, hidden, key_context, _Chained(self.rest[1:], self.base, self.call))


class SiteProcessor:
    """diffusers' attention-processor interface for one site."""

    def __init__(self, site: AttentionSite, dispatch: AttentionDispatch) -> None:
        self.site = site
        self.dispatch = dispatch

    def __call__(
        self,
        attn: DiffusersAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        **_unused: object,
    ) -> Tensor:
        """The output [B,n,width], through the handlers of this site."""
        call = self.dispatch.call
        base = BaseAttention(attn, self.dispatch.upcast, None if call is None else call.check)
        handlers = self.dispatch.handlers.get(self.site.name)
        if not handlers or call is None:
            return base(hidden_states, encoder_hidden_states)
        return _Chained(handlers, base, call)(hidden_states, encoder_hidden_states)


def install(unet: DiffusersUNet, blocks: Sequence[Block], dispatch: AttentionDispatch) -> tuple[AttentionSite, ...]:
    """Set a processor on every attention; returns their sites in the order of execution."""
    sites: list[AttentionSite] = []
    counts = {"self": 0, "cross": 0}
    paths = {id(module): name for name, module in unet.named_modules()}
    for block in blocks:
        for transformer in block.modules:
            for layer in getattr(transformer, "transformer_blocks", ()):
                layer.norm1.register_forward_pre_hook(partial(_note_input, dispatch))
                for attn, kind in ((layer.attn1, "self"), (layer.attn2, "cross")):
                    site = AttentionSite(
                        name=paths[id(attn)],
                        kind=kind,  # type: ignore[arg-type]
                        block=block.site.name,
                        index=counts[kind],
                        width=attn.to_q.in_features,
                        heads=attn.heads,
                    )
                    counts[kind] += 1
                    attn.set_processor(SiteProcessor(site, dispatch))
                    sites.append(site)
    return tuple(sites)


def _note_input(dispatch: AttentionDispatch, module: nn.Module, args: tuple[Tensor, ...]) -> None:
    """Record the input of a transformer layer before its norm, which some handlers of its self-attention need."""
    if dispatch.call is not None and dispatch.handlers:
        dispatch.call.tags[LAYER_INPUT] = args[0]


def _attend(q: Tensor, k: Tensor, v: Tensor, check: Callable[[], None] | None) -> Tensor:
    """Attention of queries [B,heads,n,d] to keys and values [B,heads,m,d].

    A CPU computes as many queries at a time as :data:`MOST_PAIRS` allows.

    :param check: called before each part; it may raise to stop.
    """
    size = max(MOST_PAIRS // (q.shape[0] * k.shape[2]), 1)
    if check is None or q.device.type != "cpu" or q.shape[2] <= size:
        return F.scaled_dot_product_attention(q, k, v)
    parts = []
    for part in torch.split(q, size, dim=2):
        check()
        parts.append(F.scaled_dot_product_attention(part, k, v))
    return torch.cat(parts, dim=2)


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:-1], heads, -1).transpose(1, 2)
