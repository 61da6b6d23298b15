"""IP-Adapter's projections: from CLIP's outputs for a picture, or a face's embedding, to tokens of the context."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shapes = Mapping[str, tuple[int, ...]]
HEAD_WIDTH = 64
#: Width of insightface's embedding of a face; no CLIP has this width.
FACE_WIDTH = 512
_RESAMPLER = "perceiver_resampler."


class Projection(nn.Module):
    """A projection: the names of its inputs (``embeds``, ``next_to_last``, ``face``), and the call."""

    reads: tuple[str, ...]

    if TYPE_CHECKING:

        def __call__(self, *read: Tensor) -> Tensor:
            """Tokens [B,k,context] from the named inputs, in their order."""


class PlainProjection(Projection):
    """``forward(embeds)`` [B,width] → tokens [B,k,context]; one linear layer and a norm."""

    reads = ("embeds",)

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.context = shapes["norm.weight"][0]
        out, width = shapes["proj.weight"]
        self.proj, self.norm = nn.Linear(width, out), nn.LayerNorm(self.context)

    def forward(self, embedding: Tensor) -> Tensor:
        """Tokens [B,k,context] from CLIP's embedding [B,width]."""
        return self.norm(self.proj(embedding).unflatten(-1, (-1, self.context)))  # type: ignore[no-any-return]


class FullProjection(Projection):
    """``forward(hidden)`` [B,n,width] → tokens [B,n,context]; two layers (the "full face" adapters)."""

    reads = ("next_to_last",)

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        inner, width = shapes["proj.0.weight"]
        out = shapes["proj.2.weight"][0]
        self.proj = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, out), nn.LayerNorm(out))

    def forward(self, hidden: Tensor) -> Tensor:
        """Tokens [B,n,context] from CLIP's hidden states [B,n,width]."""
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


class _Perceiver(Projection):
    """The layers of a perceiver, made by :func:`_add_perceiver`."""

    proj_in: nn.Linear
    proj_out: nn.Linear
    norm_out: nn.LayerNorm
    layers: nn.ModuleList


class PlusProjection(_Perceiver):
    """``forward(hidden)`` [B,n,width] → tokens [B,k,context]; a perceiver over CLIP's next-to-last hidden states.

    InstantID's reads a face [B,width] instead.
    """

    reads: tuple[str, ...] = ("next_to_last",)

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        _, count, width = shapes["latents"]
        self.latents = nn.Parameter(torch.empty(1, count, width))
        _add_perceiver(self, shapes)
        if shapes["proj_in.weight"][1] == FACE_WIDTH:
            self.reads = ("face",)

    def forward(self, hidden: Tensor) -> Tensor:
        """Tokens [B,k,context] from hidden states [B,n,width], or from a face [B,width]."""
        if hidden.ndim == 2:
            hidden = hidden[:, None]
        return _perceive(self, self.latents.expand(hidden.shape[0], -1, -1), hidden)


def _add_perceiver(module: _Perceiver, shapes: Shapes, prefix: str = "") -> None:
    """Add the layers of the file's perceiver to ``module``."""
    parts = {key[len(prefix) :]: shape for key, shape in shapes.items() if key.startswith(prefix)}
    layers = 1 + max(int(key.split(".")[1]) for key in parts if key.startswith("layers."))
    (width, embedded), out = parts["proj_in.weight"], parts["proj_out.weight"][0]
    module.proj_in, module.proj_out = nn.Linear(embedded, width), nn.Linear(width, out)
    module.norm_out = nn.LayerNorm(out)
    module.layers = nn.ModuleList(
        nn.ModuleList([_PerceiverAttention(parts, f"layers.{i}.0"), _feed_forward(parts, f"layers.{i}.1")])
        for i in range(layers)
    )


def _perceive(module: _Perceiver, latents: Tensor, hidden: Tensor) -> Tensor:
    x = module.proj_in(hidden)
    for layer in module.layers:
        attention, feed_forward = layer.children()
        latents = attention(x, latents) + latents
        latents = feed_forward(latents) + latents
    return module.norm_out(module.proj_out(latents))  # type: ignore[no-any-return]


class FaceProjection(Projection):
    """``forward(face)`` [B,512] → tokens [B,k,context]; two layers and a norm (FaceID)."""

    reads: tuple[str, ...] = ("face",)

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        inner, width = shapes["proj.0.weight"]
        self.context = shapes["norm.weight"][0]
        self.proj = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, shapes["proj.2.weight"][0]))
        self.norm = nn.LayerNorm(self.context)

    def forward(self, face: Tensor) -> Tensor:
        """Tokens [B,k,context] from a face's embedding [B,512]."""
        return self.norm(self.proj(face).unflatten(-1, (-1, self.context)))  # type: ignore[no-any-return]


class FacePlusProjection(FaceProjection):
    """``forward(face, hidden)``: FaceID's tokens, refined by CLIP's hidden states [B,n,width] (FaceID plus).

    :ivar shortcut: whether the tokens themselves are added, as in version 2.
    """

    reads = ("face", "next_to_last")

    def __init__(self, shapes: Shapes) -> None:
        super().__init__(shapes)
        self.shortcut = False
        self.perceiver_resampler = _Perceiver()
        _add_perceiver(self.perceiver_resampler, shapes, _RESAMPLER)

    def forward(self, face: Tensor, hidden: Tensor) -> Tensor:  # type: ignore[override]
        """Tokens [B,k,context] from a face's embedding [B,512] and CLIP's hidden states [B,n,width]."""
        tokens = super().forward(face)
        seen = _perceive(self.perceiver_resampler, tokens, hidden)
        return tokens + seen if self.shortcut else seen


def projection_of(shapes: Shapes) -> Projection | None:
    """A projection without weights for the shapes of a file's ``image_proj``; None if the kind is unknown."""
    if "latents" in shapes and "proj_in.weight" in shapes:
        return PlusProjection(shapes)
    if f"{_RESAMPLER}proj_in.weight" in shapes:
        return FacePlusProjection(shapes)
    if "proj.3.weight" in shapes:
        return FullProjection(shapes)
    if "proj.2.weight" in shapes and "norm.weight" in shapes:
        return FaceProjection(shapes)
    if "proj.weight" in shapes and "norm.weight" in shapes:
        return PlainProjection(shapes)
    return None
