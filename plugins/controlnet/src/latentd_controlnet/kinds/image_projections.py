"""IP-Adapter's projections: from CLIP's view of a picture to tokens of the prompt's width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shapes = Mapping[str, tuple[int, ...]]
HEAD_WIDTH = 64


class Projection(Protocol):
    """What plain and plus projections share: which of CLIP's outputs they read, and the call."""

    reads_hidden: bool

    def __call__(self, embedding: Tensor) -> Tensor: ...


class PlainProjection(nn.Module):
    """``forward(embeds)`` [B,width] → tokens [B,k,context]; one linear layer and a norm."""

    reads_hidden = False

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.context = shapes["norm.weight"][0]
        out, width = shapes["proj.weight"]
        self.proj, self.norm = nn.Linear(width, out), nn.LayerNorm(self.context)

    def forward(self, embedding: Tensor) -> Tensor:
        return self.norm(self.proj(embedding).unflatten(-1, (-1, self.context)))  # type: ignore[no-any-return]


class FullProjection(nn.Module):
    """``forward(hidden)`` [B,n,width] → tokens [B,n,context]; two layers (the "full face" adapters)."""

    reads_hidden = True

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        inner, width = shapes["proj.0.weight"]
        out = shapes["proj.2.weight"][0]
        self.proj = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, out), nn.LayerNorm(out))

    def forward(self, hidden: Tensor) -> Tensor:
        return self.proj(hidden)  # type: ignore[no-any-return]


class _PerceiverAttention(nn.Module):
    def __init__(self, shapes: Shapes, prefix: str) -> None:
        super().__init__()
        inner, width = shapes[f"{prefix}.to_q.weight"]
        self.heads = max(inner // HEAD_WIDTH, 1)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q, self.to_kv = nn.Linear(width, inner, bias=False), nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        x, latents = self.norm1(x), self.norm2(latents)
        keys, values = self.to_kv(torch.cat([x, latents], dim=1)).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.to_q(latents), keys, values))
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def _feed_forward(shapes: Shapes, prefix: str) -> nn.Sequential:
    inner, width = shapes[f"{prefix}.1.weight"]
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, inner, bias=False), nn.GELU(), nn.Linear(inner, width, bias=False)
    )


class PlusProjection(nn.Module):
    """``forward(hidden)`` [B,n,width] → tokens [B,k,context]; a perceiver over CLIP's next-to-last hidden states."""

    reads_hidden = True

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        _, count, width = shapes["latents"]
        layers = 1 + max(int(key.split(".")[1]) for key in shapes if key.startswith("layers."))
        embedded, out = shapes["proj_in.weight"][1], shapes["proj_out.weight"][0]
        self.latents = nn.Parameter(torch.empty(1, count, width))
        self.proj_in, self.proj_out = nn.Linear(embedded, width), nn.Linear(width, out)
        self.norm_out = nn.LayerNorm(out)
        self.layers = nn.ModuleList(
            nn.ModuleList([_PerceiverAttention(shapes, f"layers.{i}.0"), _feed_forward(shapes, f"layers.{i}.1")])
            for i in range(layers)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        latents = self.latents.expand(hidden.shape[0], -1, -1)
        x = self.proj_in(hidden)
        for layer in self.layers:
            attention, feed_forward = layer.children()
            latents = attention(x, latents) + latents
            latents = feed_forward(latents) + latents
        return self.norm_out(self.proj_out(latents))  # type: ignore[no-any-return]


def projection_of(shapes: Shapes) -> nn.Module:
    """The empty projection that a file's ``image_proj`` shapes describe."""
    if "latents" in shapes:
        return PlusProjection(shapes)
    if "proj.2.weight" in shapes:
        return FullProjection(shapes)
    return PlainProjection(shapes)
