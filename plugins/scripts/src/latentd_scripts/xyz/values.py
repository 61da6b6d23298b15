"""The values of an axis from text: lists, ranges ``1-9 (+2)`` and counted ranges ``1-9 [5]``."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import numpy as np

from latentd.api import InvalidRequest

N = TypeVar("N", int, float)
Value: TypeAlias = int | float | str | tuple[str, ...]

MOST_VALUES = 1000
_LONGEST_NUMBER = 40

_INT = r"\s*([+-]?\s*\d+)\s*-\s*([+-]?\s*\d+)"
_FLOAT = r"\s*([+-]?\s*\d+(?:\.\d*)?)\s*-\s*([+-]?\s*\d+(?:\.\d*)?)"
_STEPPED: dict[type[int] | type[float], re.Pattern[str]] = {
    int: re.compile(_INT + r"(?:\s*\(([+-]\d+)\s*\))?\s*"),
    float: re.compile(_FLOAT + r"(?:\s*\(([+-]\d+(?:\.\d*)?)\s*\))?\s*"),
}
_COUNTED: dict[type[int] | type[float], re.Pattern[str]] = {
    kind: re.compile(pattern + r"\s*\[(\d+)\s*\]\s*") for kind, pattern in ((int, _INT), (float, _FLOAT))
}


def split_text(text: str) -> list[str]:
    """The entries of a line of comma-separated values, trimmed; quotes keep commas together."""
    rows = csv.reader(io.StringIO(text), skipinitialspace=True)
    return [entry.strip() for row in rows for entry in row]


def join_text(entries: Sequence[str]) -> str:
    """The line that :func:`split_text` reads as ``entries``."""
    out = io.StringIO()
    csv.writer(out).writerow(entries)
    return out.getvalue().strip()


def read_values(kind: type[Value], entries: Sequence[str], axis: str) -> list[Value]:
    """Typed values: ``int``, ``float`` (with ranges), ``str``, or ``tuple`` for every order of the entries.

    :param axis: label of the axis, for errors.
    :raises InvalidRequest: an entry is not a number, or there are no values or more than :data:`MOST_VALUES`.
    """
    found: list[Value]
    if kind is tuple:
        found = list(itertools.islice(itertools.permutations(entries), MOST_VALUES + 1))
    elif kind is int:
        found = [value for entry in entries if entry.strip() for value in _numbers(int, entry, axis)]
    elif kind is float:
        found = [value for entry in entries if entry.strip() for value in _numbers(float, entry, axis)]
    else:
        found = list(entries)
    if not found:
        raise InvalidRequest(f"axis {axis!r} of the X/Y/Z plot has no values")
    if len(found) > MOST_VALUES:
        raise InvalidRequest(f"axis {axis!r} of the X/Y/Z plot has more than {MOST_VALUES} values")
    return found


def _numbers(kind: type[N], entry: str, axis: str) -> list[N]:
    if (found := _STEPPED[kind].fullmatch(entry)) is not None:
        low, high = _number(kind, found[1], axis), _number(kind, found[2], axis)
        return _stepped(kind, low, high, kind(found[3]) if found[3] else kind(1), axis)
    if (found := _COUNTED[kind].fullmatch(entry)) is not None:
        low, high, count = (
            _number(kind, found[1], axis),
            _number(kind, found[2], axis),
            min(int(found[3]), MOST_VALUES + 1),
        )
        return [kind(value) for value in np.linspace(low, high, count).tolist()]
    try:
        return [kind(entry)]
    except ValueError as error:
        raise InvalidRequest(f"{entry!r} on axis {axis!r} of the X/Y/Z plot is no number") from error


def _number(kind: type[N], text: str, axis: str) -> N:
    digits = text.replace(" ", "")
    if len(digits) > _LONGEST_NUMBER:
        raise InvalidRequest(f"a range on axis {axis!r} of the X/Y/Z plot has a number of {len(digits)} digits")
    return kind(digits)


def _stepped(kind: type[N], low: N, high: N, step: N, axis: str) -> list[N]:
    if step == 0:
        raise InvalidRequest(f"a range on axis {axis!r} of the X/Y/Z plot has step 0")
    span = high - low if step > 0 else low - high
    if span > MOST_VALUES * abs(step):
        raise InvalidRequest(f"axis {axis!r} of the X/Y/Z plot has more than {MOST_VALUES} values")
    if kind is int:
        return [kind(value) for value in range(int(low), int(high) + 1, int(step))]
    return [kind(value) for value in np.arange(low, high + step, step).tolist()]
