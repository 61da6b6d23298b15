"""ControlNets: copies of the UNet's encoder that see the control map.

Difference models, control-LoRA and global average pooling (shuffle) are included. The modules are those of diffusers'
``ControlNetModel``; the order in which they run is written here, as the core does it for the UNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from latentd.api import Residuals, UNetCall
from latentd_controlnet.kinds.hook import UnitHook, soft_scales
from latentd_controlnet.kinds.ip_adapter import IPAdapterHook
from latentd_controlnet.kinds.union import Network, fuse_union
from latentd_controlnet.prepared import PreparedUnit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class ControlNet:
    """A loaded ControlNet.

    :param pooled: whether residuals are replaced by their means over the picture (shuffle models).
    :param union_types: number of rows of a union model's task embedding, 0 for other models.
    """

    module: Network
    pooled: bool = False
    union_types: int = 0

    def residuals(self, call: UNetCall, hint: Tensor, context: Tensor, union_type: int | None) -> list[Tensor]:
        """Outputs of the zero convolutions in the order of the encoder, the middle's last.

        :param hint: the embedding of the control map [1,C,h,w].
        :param context: the context of the cross-attentions [B,n,width].
        """
        net = self.module
        dtype = net.conv_in.weight.dtype
        emb = net.time_embedding(net.time_proj(call.timestep.float()).to(dtype))
        if call.added is not None and net.add_embedding is not None:
            emb = emb + net.add_embedding(call.added.to(dtype))
        h = net.conv_in(call.sample.to(dtype))
        hint = hint.to(dtype)
        if hint.shape[-2:] != h.shape[-2:]:
            hint = F.interpolate(hint, size=h.shape[-2:], mode="nearest")
        if self.union_types:
            fused, extra = fuse_union(net, h, hint, union_type, self.union_types)
            h, emb = h + fused, emb + extra
        else:
            h = h + hint
        skips, h = _encode(net, h, emb, context.to(dtype))
        found = [conv(skip) for conv, skip in zip(net.controlnet_down_blocks, skips, strict=True)]
        return [*found, net.controlnet_mid_block(h)]


def _encode(net: Network, h: Tensor, emb: Tensor, context: Tensor) -> tuple[list[Tensor], Tensor]:
    """The encoder's outputs and the middle's."""
    skips = [h]
    for block in net.down_blocks:
        attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
        for resnet, attention in zip(block.resnets, attentions, strict=True):
            h = _attend(attention, resnet(h, emb), context)
            skips.append(h)
        for sampler in block.downsamplers or ():
            h = sampler(h)
            skips.append(h)
    middle = net.mid_block
    h = middle.resnets[0](h, emb)
    for attention, resnet in zip(getattr(middle, "attentions", None) or (), middle.resnets[1:], strict=False):
        h = resnet(_attend(attention, h, context), emb)
    return skips, h


def _attend(attention: Network, h: Tensor, context: Tensor) -> Tensor:
    if attention is None:
        return h
    out: Tensor = attention(h, encoder_hidden_states=context, return_dict=False)[0]
    return out


class ControlNetHook(UnitHook):
    """Adds a ControlNet's residuals to the UNet's skip connections and middle."""

    def __init__(self, prepared: PreparedUnit, net: ControlNet, face: IPAdapterHook | None = None) -> None:
        """Keep the network.

        :param face: the adapter whose tokens are the network's context in place of the prompt (InstantID).
        """
        super().__init__(prepared)
        self._face = face
        kind = prepared.unit.union_type
        if kind is not None and 0 < net.union_types <= kind:
            raise prepared.unit.error(f"this union model knows the first {net.union_types} control types only")
        self.net = net
        self._embedded: dict[str, Tensor] = {}

    def residuals(self, call: UNetCall) -> Residuals | None:
        """The scaled residuals, by skip connection and for the middle; None while the unit does not act."""
        if not self.acts(call):
            return None
        context = call.context if self._face is None else self._face.tokens(call)
        found = self.net.residuals(call, self._embedding(call), context, self.prepared.unit.union_type)
        rows = self.rows(call, prompt_alone=self.net.pooled)
        scaled = [r * rows * scale for r, scale in zip(found, self._scales(call, len(found)), strict=False)]
        if self.net.pooled:
            scaled = [r.mean(dim=(2, 3), keepdim=True) for r in scaled]
        scaled = [self.in_region(r) for r in scaled]
        if len(scaled) < len(found):
            scaled += [torch.zeros_like(r) for r in found[len(scaled) :]]
        return Residuals(down=scaled[:-1], mid=scaled[-1])

    def _scales(self, call: UNetCall, count: int) -> Sequence[float]:
        own = self.prepared.unit.advanced_weighting
        if own is not None:
            return own
        return soft_scales(self.weight, count) if self.is_soft(call) else [self.weight] * count

    def _embedding(self, call: UNetCall) -> Tensor:
        """The embedding of this pass's control map, computed once."""
        if call.pass_name not in self._embedded:
            embed = self.net.module.controlnet_cond_embedding
            hint = inpaint_hint(self.hint(call)).to(embed.conv_in.weight)
            self._embedded[call.pass_name] = embed(hint)
        return self._embedded[call.pass_name]

    def close(self) -> None:
        """Drop the embeddings of the passes' control maps."""
        super().close()
        self._embedded = {}


def inpaint_hint(hint: Tensor) -> Tensor:
    """The hint with three channels; where a fourth, the mask, is above a half, the others become -1."""
    if hint.shape[1] != 4:
        return hint
    mask = (hint[:, 3:] > 0.5).to(hint)
    return hint[:, :3] * (1 - mask) - mask
