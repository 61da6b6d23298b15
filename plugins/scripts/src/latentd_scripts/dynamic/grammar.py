r"""The language of templates: ``{a|b}``, ``{2$$ and $$a|b|c}``, ``__list__``, ``${name=value}``, ``%{wrapper$$text}``.

It is that of the extension Dynamic Prompts, read in linear time and without recursion. A ``|`` or ``}`` outside of a
group, a ``$`` or ``%`` before anything but ``{``, and a ``__`` that has no partner are text. A ``#`` begins a comment,
which ends with its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from latentd.api import InvalidRequest

MOST_DEPTH = 40
"""How deep groups may be nested in one another."""

Sampler = Literal["", "~", "@", "!"]
"""How to choose: as the template's mode does, at random, in turn, or every one."""

_PLAIN = re.compile(r"[^{}|_$%#]+")
_COMMENT = re.compile(r"#[^\n]*")
_WEIGHT = re.compile(r"\s*(?:([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\s*::)?\s*")
_BOUNDS = re.compile(r"\s*(?:([0-9]{1,6})?\s*(-)?\s*([0-9]{1,6})?\s*\$\$(?:([^${}\n]{1,100})\$\$)?)?")
_NAME = r"[A-Za-z_-][A-Za-z0-9_-]{0,99}"
_VARIABLE = re.compile(rf"\$\{{\s*({_NAME})\s*(\?=!?|=!?|:|\}})\s*")
# A single "_" belongs to the name; groups within it are short and have none of their own.
_WILDCARD = re.compile(
    r"__([~@!]?)((?:[^_#{}$%()\n|]|_(?!_)|\$?\{[^{}\n]{1,100}\}){1,200}+)(?:\(([^)\n]{0,1000})\))?\s*__"
)


@dataclass(frozen=True, slots=True)
class Option:
    """One alternative of a choice."""

    weight: float
    content: Content


@dataclass(frozen=True, slots=True)
class Choice:
    """``least`` to ``most`` of the options, joined by ``separator``."""

    options: tuple[Option, ...]
    least: int
    most: int
    separator: str
    sampler: Sampler


@dataclass(frozen=True, slots=True)
class Wildcard:
    """An entry of the lists that ``name`` means; ``written`` is how it stands in the template."""

    name: Content
    variables: tuple[tuple[str, Content], ...]
    sampler: Sampler
    written: str


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable's value, ``default`` if it has none."""

    name: str
    default: Content | None


@dataclass(frozen=True, slots=True)
class Assignment:
    """A value for a variable: ``immediate`` ones are expanded once, others wherever the variable stands.

    :param keeps: a value that the variable has already stays.
    """

    name: str
    value: Content
    immediate: bool
    keeps: bool


@dataclass(frozen=True, slots=True)
class Wrap:
    """``inner`` in place of the ellipsis in ``wrapper``."""

    wrapper: Content
    inner: Content


Node: TypeAlias = str | Choice | Wildcard | Variable | Assignment | Wrap
Content: TypeAlias = tuple[Node, ...]


def is_template(text: str) -> bool:
    """Whether ``text`` has anything to expand; a text that has not is used as it is written, comments included."""
    return "{" in text or text.count("__") > 1


def parse(text: str) -> Content:
    """The parts of ``text``.

    :raises InvalidRequest: a group is not closed, or nested too deep.
    """
    return _Parser(text).parse()


@dataclass(slots=True)
class _Frame:
    """A group that is open: what stands in it so far, and what makes a node of it."""

    kind: Literal["", "choice", "assignment", "variable", "wrap"]
    start: int
    parts: list[Node] = field(default_factory=list)
    # Of a choice: its finished options, the weight of the present one, and the match of its bounds.
    options: list[Option] = field(default_factory=list)
    weight: float = 1.0
    sampler: Sampler = ""
    bounds: re.Match[str] | None = None
    # Of an assignment or a variable: its name and mark. Of a wrap: the wrapper, once it is complete.
    name: str = ""
    mark: str = ""
    wrapper: Content | None = None


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.frames = [_Frame("", 0)]

    def parse(self) -> Content:
        text = self.text
        while self.at < len(text):
            if match := _PLAIN.match(text, self.at):
                self._add(match[0], match.end())
            elif match := _COMMENT.match(text, self.at):
                self.at = match.end()
            elif text[self.at] == "_":
                self._wildcard()
            elif text[self.at] == "{":
                self._open_choice()
            elif text.startswith("%{", self.at):
                self._open(_Frame("wrap", self.at), self.at + 2)
            elif match := _VARIABLE.match(text, self.at):
                self._open_variable(match)
            else:
                self._mark(text[self.at])
        if len(self.frames) > 1:
            raise InvalidRequest(f"prompt template: the bracket at {self._place(self.frames[-1].start)} is not closed")
        return tuple(self.frames[0].parts)

    def _mark(self, character: str) -> None:
        """A character that ends a part of the innermost group, or is text."""
        frame = self.frames[-1]
        if character == "}" and frame.kind:
            self.frames.pop()
            self._add(self._closed(frame), self.at + 1)
        elif character == "|" and frame.kind == "choice":
            frame.options.append(Option(frame.weight, tuple(frame.parts)))
            frame.parts = []
            self._option(self.at + 1)
        elif frame.kind == "wrap" and frame.wrapper is None and self.text.startswith("$$", self.at):
            frame.wrapper, frame.parts = tuple(frame.parts), []
            self.at += 2
        else:
            self._add(character, self.at + 1)

    def _add(self, node: Node, end: int) -> None:
        self.frames[-1].parts.append(node)
        self.at = end

    def _open(self, frame: _Frame, end: int) -> None:
        if len(self.frames) > MOST_DEPTH:
            raise InvalidRequest(f"prompt template: groups are nested over {MOST_DEPTH} deep at {self._place(self.at)}")
        self.frames.append(frame)
        self.at = end

    def _open_choice(self) -> None:
        frame, begin = _Frame("choice", self.at), self.at + 1
        if self.text.startswith(("~", "@", "!"), begin):
            frame.sampler = _sampler(self.text[begin])
            begin += 1
        bounds = _BOUNDS.match(self.text, begin)
        if bounds and (bounds[1] or bounds[3]):
            frame.bounds, begin = bounds, bounds.end()
        self._open(frame, begin)
        self._option(begin)

    def _option(self, begin: int) -> None:
        """Read an option's weight and the space before it."""
        match = _WEIGHT.match(self.text, begin)
        assert match is not None  # every part of it is optional
        self.frames[-1].weight = float(match[1]) if match[1] else 1.0
        self.at = match.end()

    def _open_variable(self, match: re.Match[str]) -> None:
        if match[2] == "}":
            # The space behind it is not part of it.
            self._add(Variable(match[1], None), match.end(2))
        else:
            kind: Literal["variable", "assignment"] = "variable" if match[2] == ":" else "assignment"
            self._open(_Frame(kind, self.at, name=match[1], mark=match[2]), match.end())

    def _closed(self, frame: _Frame) -> Node:
        parts = tuple(frame.parts)
        if frame.kind == "variable":
            return Variable(frame.name, parts)
        if frame.kind == "assignment":
            return Assignment(frame.name, parts, immediate="!" in frame.mark, keeps="?" in frame.mark)
        if frame.kind == "wrap":
            if frame.wrapper is None:
                raise InvalidRequest(f"prompt template: the group at {self._place(frame.start)} has no '$$'")
            return Wrap(frame.wrapper, parts)
        options = (*frame.options, Option(frame.weight, parts))
        if not any(option.weight > 0 for option in options):
            raise InvalidRequest(f"prompt template: all weights of the choice at {self._place(frame.start)} are 0")
        least, most, separator = _bounds(frame.bounds, len(options))
        return Choice(options, least, most, separator, frame.sampler)

    def _wildcard(self) -> None:
        match = _WILDCARD.match(self.text, self.at)
        if match is None:
            # All of a row of them at once: none of the others begins a name either.
            end = self.at + 1
            while self.text.startswith("_", end) and not _WILDCARD.match(self.text, end):
                end += 1
            self._add(self.text[self.at : end], end)
            return
        name = parse(match[2]) if "{" in match[2] else (match[2],)
        variables = tuple(_assigned(pair) for pair in (match[3] or "").split(",") if "=" in pair)
        self._add(Wildcard(name, variables, _sampler(match[1]), match[0]), match.end())

    def _place(self, at: int) -> str:
        return f"character {at + 1} ({self.text[at : at + 20]!r})"


def _sampler(mark: str) -> Sampler:
    return "~" if mark == "~" else "@" if mark == "@" else "!" if mark == "!" else ""


def _assigned(pair: str) -> tuple[str, Content]:
    """A variable and its value, from a list's brackets. The value has no group of its own: they end with the name."""
    name, _, value = pair.partition("=")
    return name.strip(), parse(value.strip())


def _bounds(match: re.Match[str] | None, count: int) -> tuple[int, int, str]:
    """The least and the greatest number of options, and what stands between them."""
    if match is None:
        return 1, 1, ","
    low, dash, high, separator = match.groups()
    least = int(low or 1)
    most = int(high) if high else count if dash else least
    return min(least, most), max(least, most), separator or ","
