"""Emphasis in prompts: brackets become weights on pieces of text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from latentd.errors import InvalidRequest

MAX_WORK = 2_000_000
"""Bound on how often a piece's weight is multiplied by a bracket's factor in one prompt: about 2000 brackets inside one
another with text at every depth. The factors cannot be multiplied first, because that rounds differently; so the work
grows with depth times length."""

ROUND = 1.1
"""What one pair of round brackets multiplies a weight by."""

SQUARE = 1 / 1.1
"""What one pair of square brackets multiplies a weight by."""

_ESCAPES = frozenset({r"\(", r"\)", r"\[", r"\]", "\\\\"})
_WEIGHT = re.compile(r":\s*([+-]?[.\d]+)\s*\)")
_PLAIN = re.compile(r"[^\\()\[\]:]+")
# The look-behind changes no match. Without it, long white space would be searched again from each of its characters.
_BREAK = re.compile(r"(?:(?<!\s)\s*)?\bBREAK\b\s*")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of prompt text with one weight."""

    text: str
    weight: float

    @property
    def is_break(self) -> bool:
        """True when the piece ends the chunk: the word BREAK that no bracket has touched."""
        return self.text == "BREAK" and self.weight == -1.0


def parse_attention(text: str, emphasis: str = "Original") -> list[Piece]:
    r"""Pieces of ``text`` in order, never empty, neighbours of equal weight joined.

    ``(x)`` multiplies by 1.1, ``[x]`` by 1/1.1, ``(x:w)`` by w; nesting multiplies, unclosed brackets act to the end,
    unmatched closers are text, ``\( \) \[ \] \\`` are literal and any other backslash vanishes. The word ``BREAK``
    becomes a piece of weight -1; brackets multiply that too, which turns it back into an ordinary (negative) word.

    :param emphasis: the option of that name; with ``None`` the text is one piece, as written.
    :raises InvalidRequest: so many and so deep brackets that they need more than :data:`MAX_WORK` multiplications.
    """
    if emphasis == "None":
        return [Piece(text, 1.0)]
    texts: list[str] = []
    weights: list[float] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}
    work = _Work()

    def close(bracket: str, factor: float) -> None:
        start = opened[bracket].pop()
        work.add(len(weights) - start)
        for index in range(start, len(weights)):
            weights[index] *= factor

    for token, weight in _tokens(text):
        if token.startswith("\\"):
            texts.append(token[1:])
            weights.append(1.0)
        elif token in opened:
            opened[token].append(len(texts))
        elif weight is not None and opened["("]:
            close("(", weight)
        elif token == ")" and opened["("]:
            close("(", ROUND)
        elif token == "]" and opened["["]:
            close("[", SQUARE)
        else:
            for index, part in enumerate(_BREAK.split(token)):
                if index:
                    texts.append("BREAK")
                    weights.append(-1.0)
                texts.append(part)
                weights.append(1.0)
    _close_rest(weights, opened["("], ROUND, work)
    _close_rest(weights, opened["["], SQUARE, work)
    return _joined(texts, weights)


class _Work:
    """Counts multiplications and ends a parse that would take too many."""

    def __init__(self) -> None:
        self.done = 0

    def add(self, count: int) -> None:
        self.done += count
        if self.done > MAX_WORK:
            raise InvalidRequest("the prompt's brackets are nested too deeply", hint="close brackets where they end")


def _tokens(text: str) -> Iterator[tuple[str, float | None]]:
    """The lexical tokens of ``text``, each with its number if it is a ``:number)``, else None."""
    position = 0
    while position < len(text):
        token, weight = text[position], None
        if token == "\\":
            pair = text[position : position + 2]
            token = pair if pair in _ESCAPES else token
        elif token == ":":
            match = _WEIGHT.match(text, position)
            weight = _number(match[1]) if match else None
            if match and weight is not None:
                token = match[0]
        elif match := _PLAIN.match(text, position):
            token = match[0]
        yield token, weight
        position += len(token)


def _number(digits: str) -> float | None:
    """The value of ``digits``, or None for what only looks like a number (``1.2.3``, ``.``)."""
    try:
        return float(digits)
    except ValueError:
        return None


def _close_rest(weights: list[float], starts: list[int], factor: float, work: _Work) -> None:
    """Close every bracket still open at the end of the text, outermost first.

    Each weight is multiplied once per bracket, in that order, because the rounding of floats depends on the order.
    Equal weights are computed once.
    """
    powers: dict[float, list[float]] = {}
    depth = 0
    for index, weight in enumerate(weights):
        while depth < len(starts) and starts[depth] <= index:
            depth += 1
        known = powers.setdefault(weight, [weight])
        work.add(max(0, depth + 1 - len(known)))
        while len(known) <= depth:
            known.append(known[-1] * factor)
        weights[index] = known[depth]


def _joined(texts: list[str], weights: list[float]) -> list[Piece]:
    alike = groupby(zip(texts, weights, strict=True), key=itemgetter(1))
    pieces = [Piece("".join(text for text, _ in group), weight) for weight, group in alike]
    return pieces or [Piece("", 1.0)]
