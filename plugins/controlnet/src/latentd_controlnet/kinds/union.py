"""ControlNet Union (ProMax): one network for many kinds of map; an embedding says which (a1111-controlnet-kinds)."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor

Network: TypeAlias = Any
"""diffusers' ``ControlNetModel`` or ``ControlNetUnionModel``, or a part of them, whose attributes have no types."""


def fuse_union(net: Network, h: Tensor, hint: Tensor, kind: int | None, types: int) -> tuple[Tensor, Tensor]:
    """The first features [B,C,h,w] and the time embedding [B,4C] with what a union model adds to them.

    :param h: the first convolution's output [B,C,h,w].
    :param hint: the control map's embedding [1,C,h,w].
    :param kind: index of the kind of map; None if the model is not told.
    """
    hint = hint.expand(h.shape[0], -1, -1, -1)
    token = hint.mean(dim=(2, 3))
    flags = torch.zeros(h.shape[0], types, device=h.device)
    if kind is not None:
        token = token + net.task_embedding[kind]
        flags[:, kind] = 1.0
    sequence = torch.stack([token, h.mean(dim=(2, 3))], dim=1)
    for layer in net.transformer_layes:
        sequence = layer(sequence)
    offset = net.spatial_ch_projs(sequence[:, 0])[:, :, None, None]
    embedded = net.control_type_proj(flags.flatten()).to(h.dtype).reshape(h.shape[0], -1)
    return hint + offset, net.control_add_embedding(embedded)
