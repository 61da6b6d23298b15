"""The prompts of a unit: one for each region, parted by ``[SEP]``."""

from __future__ import annotations

import re

_SEPARATOR = re.compile(r"\s*\[SEP\]\s*")
_SKIP = re.compile(r"\s*\[SKIP\]\s*")
_WHOLE = "[PROMPT]"


def parts(text: str, whole: str) -> list[str]:
    """The prompts in ``text``: an empty one is ``whole``, which also takes the place of ``[PROMPT]``."""
    return [part.replace(_WHOLE, whole) if part else whole for part in _SEPARATOR.split(text)]


def part(prompts: list[str], number: int) -> str:
    """The prompt of region ``number``, from 0: its own, or the last."""
    return prompts[min(number, len(prompts) - 1)]


def is_skipped(prompt: str) -> bool:
    """Whether the prompt says to leave its region as it is."""
    return _SKIP.fullmatch(prompt) is not None
