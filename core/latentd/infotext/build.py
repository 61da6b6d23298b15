"""From values to infotext."""

from __future__ import annotations

import json
from collections.abc import Mapping


def quote(value: object) -> str:
    """``value`` as text, quoted as JSON if readers would misread it otherwise; non-ASCII letters are not escaped.

    Values are quoted that have a comma, a colon or a line break, or that look like quoted JSON themselves.
    """
    text = str(value)
    if any(mark in text for mark in ",:\n") or (text[:1] == text[-1:] == '"'):
        return json.dumps(value, ensure_ascii=False, default=str)
    return text


def build_parameters(fields: Mapping[str, object]) -> str:
    """The last line of an infotext: ``key: value`` in the order of ``fields``.

    None is skipped; a key whose value equals it is written alone.
    """
    return ", ".join(
        key if key == value else f"{key}: {quote(value)}" for key, value in fields.items() if value is not None
    )


def build_infotext(prompt: str, negative_prompt: str, fields: Mapping[str, object]) -> str:
    """The infotext of one image: prompt, negative prompt if there is one, and the line of ``fields``; trimmed."""
    negative = f"\nNegative prompt: {negative_prompt}" if negative_prompt else ""
    return f"{prompt}{negative}\n{build_parameters(fields)}".strip()


def with_entries(infotext: str, entries: Mapping[str, object]) -> str:
    """``infotext`` with ``entries`` at the end of its parameters, but before ``Version`` if it has one."""
    head, mark, version = infotext.rpartition(", Version: ")
    if not mark or "\n" in version:
        head, mark, version = infotext, "", ""
    return f"{head}, {build_parameters(entries)}{mark}{version}"
