"""Learning rates that change over the steps, in AUTOMATIC1111's words: ``0.005:100, 1e-3:1000, 1e-5``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from latentd.api import InvalidRequest

EXAMPLE = 'a number, or several with the step until which each counts: "0.005:100, 1e-3:1000, 1e-5"'
LONGEST = 10_000


@dataclass(frozen=True, slots=True)
class Schedule:
    """``parts``: value and the number of steps up to which it counts, ascending; infinite for the last at most."""

    parts: tuple[tuple[float, float], ...]

    def at(self, step: int) -> float | None:
        """The value for the step after ``step`` steps; None where the schedule has come to its end."""
        return next((value for value, until in self.parts if step < until), None)


def parse_schedule(text: str, field: str) -> Schedule:
    """The schedule that ``text`` describes; parts that end before those before them are passed over, -1 is the end.

    :param field: the request's field, for messages.
    :raises InvalidRequest: it describes none, or has a value that is not above 0.
    """
    parts: list[tuple[float, float]] = []
    for piece in text[:LONGEST].split(","):
        if not piece.strip():
            continue
        value, _, end = piece.partition(":")
        try:
            number, until = float(value), float(int(end)) if end.strip() else math.inf
        except (ValueError, OverflowError):
            raise InvalidRequest(f"{field}: {piece.strip()[:60]!r} is no part of a schedule", hint=EXAMPLE) from None
        if not (math.isfinite(number) and number > 0):
            raise InvalidRequest(f"{field}: {value.strip()[:60]} is not above 0", hint=EXAMPLE)
        until = math.inf if until == -1 else until
        if until > (parts[-1][1] if parts else 0):
            parts.append((number, until))
    if not parts:
        raise InvalidRequest(f"{field}: Learning rate is empty or 0", hint=EXAMPLE)
    return Schedule(tuple(parts))
