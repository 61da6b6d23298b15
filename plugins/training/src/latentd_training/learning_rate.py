"""Learning rates that change over the steps, in AUTOMATIC1111's words: ``0.005:100, 1e-3:1000, 1e-5``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from latentd.api import InvalidRequest

EXAMPLE = 'a number, or several with the step until which each counts: "0.005:100, 1e-3:1000, 1e-5"'
LONGEST = 10_000
MOST = 1e30
"""A larger value is no number in the arithmetic of training."""
NO_END = -1
"""The step of a part that counts to the end."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """``parts``: value and the number of steps up to which it counts, ascending; infinite for the last at most."""

    parts: tuple[tuple[float, float], ...]

    @property
    def end(self) -> float:
        """The number of steps after which it says nothing; infinite if there is none."""
        return self.parts[-1][1]

    def at(self, step: int) -> float | None:
        """The value for the step after ``step`` steps; None where the schedule has come to its end."""
        return next((value for value, until in self.parts if step < until), None)

    def lasting(self, step: int) -> float:
        """As :meth:`at`, but the last value counts beyond the schedule's end."""
        value = self.at(step)
        return self.parts[-1][0] if value is None else value


def parse_schedule(text: str, field: str) -> Schedule:
    """The schedule that ``text`` describes; a part without a step, or with -1, counts to the end.

    :param field: the request's field, for messages.
    :raises InvalidRequest: it describes none, has a value that is not above 0, or a part that never counts.
    """
    if len(text) > LONGEST:
        raise InvalidRequest(f"{field}: longer than {LONGEST} characters", hint=EXAMPLE)
    parts: list[tuple[float, float]] = []
    for piece in text.split(","):
        if not piece.strip():
            continue
        value, until = _part(piece.strip(), field)
        begin = parts[-1][1] if parts else 0
        if until <= begin:
            raise InvalidRequest(
                f"{field}: {piece.strip()[:60]!r} never counts, since what stands before it counts until "
                + (f"step {begin:g}" if math.isfinite(begin) else "the end"),
                hint=EXAMPLE,
            )
        parts.append((value, until))
    if not parts:
        raise InvalidRequest(f"{field}: it is empty", hint=EXAMPLE)
    return Schedule(tuple(parts))


def _part(piece: str, field: str) -> tuple[float, float]:
    """The value of ``piece``, and the number of steps up to which it counts.

    :raises InvalidRequest: it is no part of a schedule.
    """
    value, colon, end = piece.partition(":")
    try:
        number, until = float(value), int(end) if colon else NO_END
        last = math.inf if until == NO_END else float(until)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{field}: {piece[:60]!r} is no part of a schedule", hint=EXAMPLE) from None
    if not 0 < number <= MOST:
        raise InvalidRequest(f"{field}: {value.strip()[:60]} is no number above 0 and up to {MOST:g}", hint=EXAMPLE)
    if last <= 0:
        raise InvalidRequest(f"{field}: {piece[:60]!r} ends before the first step", hint=EXAMPLE)
    return number, last
