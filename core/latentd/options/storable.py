"""Whether a value can be written to config.json and read from it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 32
MAX_TEXT = 100_000
MAX_ENTRIES = 10_000
#: Digits of the largest integer that Python's own reader of JSON takes.
MAX_DIGITS = 4000


def is_text(value: str) -> bool:
    """Whether ``value`` is well-formed text without NUL: an unpaired surrogate has no place in any file."""
    return "\0" not in value and _encodes(value)


def why_not_storable(value: Any, *, max_text: int = MAX_TEXT, max_entries: int = MAX_ENTRIES) -> str | None:
    """What keeps ``value`` out of a JSON file, in a few words; None when it can be stored.

    :param max_text: characters of the longest text. :param max_entries: values in it, at every depth.

    Works without recursion, so that the nesting it refuses cannot overflow it.
    """
    waiting: list[tuple[Any, int]] = [(value, 1)]
    entries = 0
    while waiting:
        item, depth = waiting.pop()
        entries += 1
        if entries > max_entries:
            return f"more than {max_entries} values"
        if depth > MAX_DEPTH:
            return f"nested more than {MAX_DEPTH} deep"
        if isinstance(item, str):
            if len(item) > max_text:
                return f"a text of over {max_text} characters"
            if not _encodes(item):
                return "text with an unpaired surrogate"
        elif isinstance(item, Mapping):
            waiting += [(key, depth) for key in item] + [(inner, depth + 1) for inner in item.values()]
        elif isinstance(item, list | tuple):
            waiting += [(inner, depth + 1) for inner in item]
        elif isinstance(item, int) and item.bit_length() > MAX_DIGITS * 3:
            return "an integer of thousands of digits"
    return None


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
