"""Composition: a prompt with ``AND`` is several prompts, each with a weight."""

from __future__ import annotations

import re
from dataclasses import dataclass

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"[-+]?(?:\d+\.?|\d*\.\d+)")


@dataclass(frozen=True, slots=True)
class Part:
    """One prompt of a composition, and the weight of its guidance."""

    text: str
    weight: float = 1.0


def split_composition(prompt: str) -> list[Part]:
    """The parts of ``prompt`` in order, at least one.

    Parts are split at the whole word ``AND`` in capitals. ``:number`` at the end of a part is its weight, also when the
    prompt has only one part. White space after the text and around the weight is dropped; that before it is kept.
    Negative prompts are not split: do not pass them here.
    """
    return [_weighted(part) for part in _AND.split(prompt)]


def _weighted(part: str) -> Part:
    text, colon, tail = part.rpartition(":")
    if colon and _WEIGHT.fullmatch(tail.strip()):
        return Part(text.rstrip(), float(tail))
    return Part(part.rstrip())
