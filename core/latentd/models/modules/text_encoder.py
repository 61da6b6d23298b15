"""A text encoder: the CLIP text model of transformers with all its hidden states, and the pooled projection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latentd.models.architecture import TextArchitecture


@dataclass(frozen=True, slots=True)
class Hidden:
    """``states[0]`` the embeddings [B,n,width], ``states[k]`` the output of layer k; no final norm in any."""

    states: tuple[Tensor, ...]

    def from_end(self, count: int) -> Tensor:
        """The ``count``-th state from the end (1: the last layer's output); the embeddings if there are fewer."""
        return self.states[max(0, len(self.states) - count)]


class TextEncoder(nn.Module):
    """``transformer`` is a ``CLIPTextModel`` (no ``text_model.`` in its names), ``projection`` a Linear or None."""

    def __init__(self, architecture: TextArchitecture) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel

        super().__init__()
        self.architecture = architecture
        config = CLIPTextConfig(
            vocab_size=architecture.vocabulary,
            hidden_size=architecture.width,
            intermediate_size=architecture.inner_width,
            num_hidden_layers=architecture.layers,
            num_attention_heads=architecture.heads,
            max_position_embeddings=architecture.positions,
            hidden_act="quick_gelu" if architecture.kind == "clip" else "gelu",
        )
        self.transformer: Any = CLIPTextModel(config)  # its layers are not typed
        self.projection = (
            nn.Linear(architecture.width, architecture.projection, bias=False) if architecture.projection else None
        )

    def hidden_states(self, ids: Tensor, injected: Mapping[int, list[tuple[int, Tensor]]] | None = None) -> Hidden:
        """All hidden states for ``ids`` [B,n].

        :param injected: row → (position, vectors [k,width]), which replace token embeddings from that position on;
            vectors beyond the end are cut.
        """
        model = self.transformer
        vectors = model.embeddings.token_embedding(ids)
        for row, places in (injected or {}).items():
            for position, values in places:
                room = vectors.shape[1] - position
                if room > 0:
                    count = min(room, values.shape[0])
                    vectors[row, position : position + count] = values[:count].to(vectors)
        length = ids.shape[1]
        hidden = vectors + model.embeddings.position_embedding.weight[:length]
        mask = torch.full((length, length), float("-inf"), dtype=hidden.dtype, device=hidden.device).triu(1)[None, None]
        states = [hidden]
        for layer in model.encoder.layers:
            out = layer(states[-1], mask)
            states.append(out[0] if isinstance(out, tuple) else out)
        return Hidden(tuple(states))

    def final_norm(self, hidden: Tensor) -> Tensor:
        """``hidden`` [B,n,width] after the final layer norm."""
        return self.transformer.final_layer_norm(hidden)  # type: ignore[no-any-return]

    def pooled(self, hidden: Hidden, ids: Tensor) -> Tensor:
        """The projected vector [B,projection] at the end-of-text token, the largest id of each row."""
        last = self.final_norm(hidden.states[-1])
        rows = torch.arange(ids.shape[0], device=ids.device)
        chosen = last[rows, ids.argmax(dim=-1)]
        return self.projection(chosen) if self.projection is not None else chosen
