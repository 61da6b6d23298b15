"""T2I style adapter: appends eight tokens, made from CLIP's view of a picture, to the prompt's.

Rules: a1111-controlnet-kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from latentd.api import Model, UNetCall, build_module, read_weights, weights_from_tensors
from latentd_controlnet.kinds.hook import UnitHook
from latentd_controlnet.kinds.recognise import strip
from latentd_controlnet.prepared import PreparedUnit

HEADS = 8


class _Mlp(nn.Module):
    """The two layers of a block with GELU in its sigmoid form between them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.c_fc(x)
        return self.c_proj(h * torch.sigmoid(1.702 * h))  # type: ignore[no-any-return]


class _Layer(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, HEADS if width % HEADS == 0 else 1, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = _Mlp(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        h = self.ln_1(x)
        x = x + self.attn(h, h, h, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class StyleAdapter(nn.Module):
    """``forward(hidden)``: tokens [1,k,context] for CLIP's last hidden states [1,n,width]."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        _, count, width = shapes["style_embedding"]
        layers = 1 + max(int(key.split(".")[1]) for key in shapes if key.startswith("transformer_layes."))
        inner = shapes["transformer_layes.0.mlp.c_fc.weight"][0]
        self.count = count
        self.style_embedding = nn.Parameter(torch.empty(1, count, width))
        self.transformer_layes = nn.Sequential(*(_Layer(width, inner) for _ in range(layers)))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(shapes["proj"]))

    def forward(self, hidden: Tensor) -> Tensor:
        """Tokens [1,k,context] from CLIP's last hidden states [1,n,width]."""
        x = torch.cat([hidden, self.style_embedding.expand(hidden.shape[0], -1, -1)], dim=1)
        x = self.transformer_layes(self.ln_pre(x))
        return self.ln_post(x[:, -self.count :]) @ self.proj  # type: ignore[no-any-return]


def load_style(path: Path, base: Model, dtype: torch.dtype) -> StyleAdapter:
    """The style adapter in ``path``."""
    source = read_weights(path)
    tensors = {strip(key): source[key] for key in source}
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    weights = weights_from_tensors(path.name, tensors)
    return build_module(lambda: StyleAdapter(shapes), weights, base.device, dtype)


class StyleHook(UnitHook):
    """Appends the style's tokens to the context of rows with the prompt, and zeros to the others."""

    reads_tensors = True

    def __init__(self, prepared: PreparedUnit, adapter: StyleAdapter) -> None:
        super().__init__(prepared)
        self.adapter = adapter
        self._tokens: Tensor | None = None

    def before(self, call: UNetCall) -> None:
        """Append the tokens to the context, zeros in rows without the prompt."""
        if not self.acts(call):
            return
        if self._tokens is None:
            assert self.maps is not None
            hidden = self.maps.tensors[0].last_hidden.to(next(self.adapter.parameters()))
            self._tokens = self.adapter(hidden)
        rows = call.is_cond[:, None, None].to(self._tokens.dtype) * self.weight
        call.context = torch.cat([call.context, (self._tokens * rows).to(call.context)], dim=1)

    def close(self) -> None:
        """Drop the tokens."""
        super().close()
        self._tokens = None
