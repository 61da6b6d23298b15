"""Whether a value can be written to config.json and read from it again."""

from __future__ import annotations

from collections.abc import Mapping

from latentd.types import JsonValue

MAX_DEPTH = 32
MAX_TEXT = 100_000
MAX_ENTRIES = 10_000
#: Digits of the largest integer that Python's JSON reader accepts.
MAX_DIGITS = 4000


def is_text(value: str) -> bool:
    """Whether ``value`` can be written as UTF-8 and has no NUL; an unpaired surrogate cannot."""
    return "\0" not in value and _encodes(value)


def why_not_storable(value: JsonValue, *, max_text: int = MAX_TEXT, max_entries: int = MAX_ENTRIES) -> str | None:
    """Why ``value`` cannot be stored in a JSON file, in a few words; None if it can.

    It works without recursion, because the values may be nested too deeply for that.

    :param max_text: most characters of a text.
    :param max_entries: most values in it, at all depths together.
    """
    waiting: list[tuple[JsonValue, int]] = [(value, 1)]
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
