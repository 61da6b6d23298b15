"""Captions as the compact token numbers of training: one row a known token, the last row for every other word."""

from __future__ import annotations

import torch
from scenes import known_tokens, tokenise
from torch import Tensor


def rows() -> int:
    """How many rows the token table has in training."""
    return len(known_tokens()) + 1


def encode_captions(captions: list[str]) -> Tensor:
    """Row numbers (n, 77), int64."""
    index = {token: row for row, token in enumerate(known_tokens())}
    return torch.tensor([[index.get(token, len(index)) for token in tokenise(text)] for text in captions])
