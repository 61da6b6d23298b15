r"""Prompt editing: ``[from:to:when]`` and ``[a|b]`` become one text per stretch of sampling steps.

The language is the one that AUTOMATIC1111 defines by a grammar. A group is well formed if its brackets match and its
contents are well formed. The brackets and colons of any other group are literal text, but the groups inside it still
count. A vertical bar is allowed only inside a well-formed group, and a backslash needs a character to escape. A prompt
that breaks one of these two rules does not parse and is used as written, for all steps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_NUMBER = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")
_PLAIN = re.compile(r"(?:[^\\\[\]():|]|\\.)+")


@dataclass(frozen=True, slots=True)
class Segment:
    """The text in force up to and including step ``end_at_step`` (1-based)."""

    end_at_step: int
    text: str


@dataclass(frozen=True, slots=True)
class _Switch:
    """``before`` until the boundary step, ``after`` from then on."""

    before: list[_Part]
    after: list[_Part]
    when: str


@dataclass(frozen=True, slots=True)
class _Cycle:
    """One choice a step, in turn."""

    choices: list[list[_Part]]


@dataclass(frozen=True, slots=True)
class _Run:
    """Parts one after another. A bracket that is no group keeps its parts here, so that they need not be copied."""

    parts: list[_Part]


_Part = str | _Switch | _Cycle | _Run


@dataclass(slots=True)
class _Frame:
    """A bracket that may yet turn out to be a group: its parts, split at ``:`` or ``|``."""

    bracket: str
    fields: list[list[_Part]] = field(default_factory=lambda: [[]])
    separators: list[str] = field(default_factory=list)

    def literal(self, closer: str = "") -> _Run:
        """The parts, with the bracket and the separators as text."""
        parts: list[_Part] = [self.bracket, _Run(self.fields[0])]
        for separator, more in zip(self.separators, self.fields[1:], strict=True):
            parts += [separator, _Run(more)]
        return _Run([*parts, closer])


class _DoesNotParse(Exception):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """How the numbers of a prompt turn into steps.

    :param steps: steps of the pass (twice the asked number for second-order samplers).
    :param step_offset: subtracted from a whole number: the steps of the passes before this one.
    :param fraction_offset: subtracted from a number with a decimal point: 1.0 in the hires pass.
    :param old: the rule before 1.6: a number below 1 is a fraction, any other a step.
    """

    steps: int
    step_offset: int = 0
    fraction_offset: float = 0.0
    old: bool = False

    def boundary(self, when: str) -> int:
        """The last step of ``before``, at most ``steps``; below 1 when the switch lies before this pass."""
        value = float(when)
        if self.old:
            value = value * self.steps if value < 1 else value
        elif "." in when:
            value = (value - self.fraction_offset) * self.steps
        else:
            value -= self.step_offset
        return int(max(min(value, self.steps), -1.0))


def schedule(text: str, steps: int, hires_steps: int | None = None, use_old: bool = False) -> list[Segment]:
    """One segment per distinct boundary of ``text``, in order, the last ending at the end of the pass; never empty.

    :param steps: total steps of the first pass (twice the asked number for second-order samplers).
    :param hires_steps: total steps of the second pass when the schedule is for that pass, else None.
    :param use_old: the option ``use_old_scheduling``; the hires pass then starts again from 0, with ``steps`` in all.
    """
    if hires_steps is None or use_old:
        timeline = Timeline(steps=steps, old=use_old)
    else:
        timeline = Timeline(steps=hires_steps, step_offset=steps, fraction_offset=1.0)
    try:
        parts = _parse(text)
    except _DoesNotParse:
        return [Segment(timeline.steps, text)]
    ends = {timeline.steps}
    _collect(parts, timeline, ends)
    return [Segment(end, _text_at(parts, end, timeline)) for end in sorted(ends)]


def segment_at(segments: Sequence[Segment], call: int) -> Segment:
    """The segment that model call ``call`` (0-based) uses: the first that ends at or after that number.

    Ends are 1-based steps and calls are 0-based, so a segment that ends at b covers b + 1 calls, as in AUTOMATIC1111.
    A call after the last end uses the first segment.
    """
    return next((segment for segment in segments if call <= segment.end_at_step), segments[0])


def _parse(text: str) -> list[_Part]:
    """The top-level parts of ``text``; linear time, no recursion."""
    frames = [_Frame("")]
    position = 0
    while position < len(text):
        character = text[position]
        if match := _PLAIN.match(text, position):
            frames[-1].fields[-1].append(match[0])
            position = match.end()
            continue
        if character in "([":
            frames.append(_Frame(character))
        elif character in ":|":
            frames[-1].separators.append(character)
            frames[-1].fields.append([])
        elif character in ")]":
            group = _close(frames[-1], character)
            if group is None:
                _loosen(frames)
                frames[0].fields[-1].append(character)
            else:
                frames.pop()
                frames[-1].fields[-1].append(group)
        else:
            raise _DoesNotParse
        position += 1
    _loosen(frames)
    top = frames[0]
    if "|" in top.separators:
        raise _DoesNotParse
    return [top.literal()]


def _loosen(frames: list[_Frame]) -> None:
    """Turn every open bracket into text: after a closing bracket that matches none of them, none can be a group."""
    top = frames[0].fields[-1]
    for frame in frames[1:]:
        if "|" in frame.separators:
            raise _DoesNotParse
        top.append(frame.literal())
    del frames[1:]


def _close(frame: _Frame, closer: str) -> _Part | None:
    """The group that the bracket of ``frame`` and ``closer`` enclose; None if that is not well formed."""
    colons, bars = frame.separators.count(":"), frame.separators.count("|")
    if frame.bracket == "(" and closer == ")" and bars == 0 and colons <= 1:
        return frame.literal(closer)
    if frame.bracket != "[" or closer != "]":
        return None
    if not frame.separators:
        return frame.literal(closer)
    if bars and not colons:
        return _Cycle(frame.fields)
    if bars or colons > 2 or not all(isinstance(part, str) for part in frame.fields[-1]):
        return None
    number = _NUMBER.fullmatch("".join(str(part) for part in frame.fields[-1]))
    if number is None:
        return None
    before: list[_Part] = frame.fields[0] if colons == 2 else []
    return _Switch(before, frame.fields[-2], number[1])


def _collect(parts: list[_Part], timeline: Timeline, ends: set[int]) -> None:
    """Add every boundary of ``parts`` that lies within the pass to ``ends``."""
    waiting: list[list[_Part]] = [parts]
    while waiting:
        for part in waiting.pop():
            if isinstance(part, _Switch):
                if (boundary := timeline.boundary(part.when)) >= 1:
                    ends.add(boundary)
                waiting += [part.before, part.after]
            elif isinstance(part, _Cycle):
                ends.update(range(1, timeline.steps + 1))
                waiting += part.choices
            elif isinstance(part, _Run):
                waiting.append(part.parts)


def _text_at(parts: list[_Part], step: int, timeline: Timeline) -> str:
    """The text of ``parts`` at ``step`` (1-based)."""
    written: list[str] = []
    waiting = list(reversed(parts))
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            written.append(part)
        elif isinstance(part, _Switch):
            waiting += reversed(part.before if step <= timeline.boundary(part.when) else part.after)
        elif isinstance(part, _Run):
            waiting += reversed(part.parts)
        else:
            waiting += reversed(part.choices[(step - 1) % len(part.choices)])
    return "".join(written)
