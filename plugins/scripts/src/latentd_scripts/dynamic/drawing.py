"""How a template's choices are made: drawn from a seed, or all of them, one after another."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol


class Chooser(Protocol):
    """Makes the choices of one text, in the order in which they stand."""

    def number(self, least: int, most: int) -> int:
        """A number from ``least`` to ``most``."""

    def option(self, weights: Sequence[float]) -> int:
        """The place of one of a group's options; those of weight 0 are chosen only if there are no others."""

    def entry(self, count: int, weights: Sequence[float] | None) -> int:
        """The place of one of the ``count`` entries of a list."""


class Draws:
    """Choices drawn from a seed.

    The numbers are taken from Python's generator in the same way as by the library dynamicprompts, so that a seed and a
    template give the text which they gave there.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def number(self, least: int, most: int) -> int:
        """As :meth:`Chooser.number`."""
        return self._random.randint(least, most)

    def option(self, weights: Sequence[float]) -> int:
        """As :meth:`Chooser.option`."""
        if not any(weights):
            weights = [1.0] * len(weights)
        return self._random.choices(range(len(weights)), weights=weights, k=1)[0]

    def entry(self, count: int, weights: Sequence[float] | None) -> int:
        """As :meth:`Chooser.entry`."""
        if weights is None:
            return self._random.choice(range(count))
        # The library draws ten at a time, and uses the first.
        return self._random.choices(range(count), weights=weights, k=10)[0]


class Combinations:
    """Every combination of choices, the last choice changing fastest: like a counter whose digits have own bases.

    A text is expanded for the present combination; then :meth:`advance` goes to the next one. The digits and their
    bases are found while the text is expanded, since what is chosen first decides what there is to choose next.
    """

    def __init__(self) -> None:
        self._digits: list[int] = []
        self._bases: list[int] = []
        self._at = 0

    def advance(self) -> bool:
        """Go to the next combination; False if there is none."""
        del self._digits[self._at :], self._bases[self._at :]
        self._at = 0
        while self._digits and self._digits[-1] + 1 == self._bases[-1]:
            self._digits.pop()
            self._bases.pop()
        if not self._digits:
            return False
        self._digits[-1] += 1
        return True

    def number(self, least: int, most: int) -> int:
        """As :meth:`Chooser.number`."""
        return least + self._digit(most - least + 1)

    def option(self, weights: Sequence[float]) -> int:
        """As :meth:`Chooser.option`."""
        places = [place for place, weight in enumerate(weights) if weight > 0] or range(len(weights))
        return places[self._digit(len(places))]

    def entry(self, count: int, weights: Sequence[float] | None) -> int:
        """As :meth:`Chooser.entry`."""
        return self._digit(count) if weights is None else self.option(weights)

    def _digit(self, base: int) -> int:
        if self._at == len(self._digits):
            self._digits.append(0)
            self._bases.append(base)
        self._at += 1
        return self._digits[self._at - 1]


class Turns:
    """Choices that take turns: number ``turn`` counts through them. A picture's turn is its seed, or its number."""

    def __init__(self, turn: int) -> None:
        self._turn = turn

    def number(self, least: int, most: int) -> int:
        """As :meth:`Chooser.number`."""
        return least + self._turn % (most - least + 1)

    def option(self, weights: Sequence[float]) -> int:
        """As :meth:`Chooser.option`."""
        return self._turn % len(weights)

    def entry(self, count: int, weights: Sequence[float] | None) -> int:
        """As :meth:`Chooser.entry`."""
        return self._turn % count
