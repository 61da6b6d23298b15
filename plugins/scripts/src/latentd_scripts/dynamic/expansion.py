"""From a template to a text; one :class:`Expansion` makes all texts of a request and bounds what they cost together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from latentd.api import InvalidRequest, TooLarge
from latentd_scripts.dynamic.drawing import Chooser, Combinations, Draws, Turns
from latentd_scripts.dynamic.grammar import (
    MOST_DEPTH,
    Assignment,
    Choice,
    Content,
    Node,
    Sampler,
    Variable,
    Wildcard,
    Wrap,
    parse,
)

MOST_WORK = 20_000
"""Most steps for one text: parts written, and what is handled on the way, 64 characters or 16 entries a step."""
MOST_WORK_TOGETHER = 500_000
"""Most steps for all texts of a request."""

_ELLIPSIS = re.compile(r"[\u2024-\u2026\u22ee-\u22f1\ufe19]+|\.{3,}")


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of a list, templates themselves; ``weights`` is None if all are equally likely."""

    texts: Sequence[str]
    weights: Sequence[float] | None = None


class Lists(Protocol):
    """The lists that templates may name, as they are at one time."""

    def entries(self, name: str) -> Entries:
        """The entries of all lists that ``name`` means; empty if there are none."""


class Folders(Protocol):
    """Where lists are found."""

    def now(self) -> Lists:
        """The lists in their present state."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """What holds at a place of a template: how deep it is, who chooses, the variables, and those that are in use."""

    depth: int
    chooser: Chooser
    choosers: Mapping[Sampler, Chooser]
    variables: Mapping[str, Content] = field(default_factory=dict)
    within: frozenset[str] = frozenset()

    def inner(self) -> _Scope:
        if self.depth >= MOST_DEPTH:
            raise InvalidRequest(
                f"prompt template: over {MOST_DEPTH} levels of groups, lists and variables",
                hint="a list that contains itself has no end",
            )
        return replace(self, depth=self.depth + 1)

    def by(self, sampler: Sampler) -> _Scope:
        """With the choices made as ``sampler`` says; every one of them is possible only where the request asks."""
        return replace(self, chooser=self.choosers[sampler]) if sampler in self.choosers else self


class Expansion:
    """The texts of one request.

    :param folders: asked for the lists once, and only if a template names one.
    :param longest: most characters of a text.
    :ivar missing: the names of lists without entries that were asked for, in order.
    """

    def __init__(self, folders: Folders, *, longest: int) -> None:
        self.missing: dict[str, None] = {}
        self._folders = folders
        self._lists: Lists | None = None
        self._longest = longest
        self._parsed: dict[str, Content] = {}
        self._found: dict[str, Entries] = {}
        self._work = 0
        self._work_together = 0

    def draw(self, template: str, seed: int) -> str:
        """The text that ``seed`` draws.

        :raises InvalidRequest: the template cannot be read, or names a variable without a value.
        :raises TooLarge: the text would be too long, or takes too many steps.
        """
        draws = Draws(seed)
        return self._text(template, _Scope(0, draws, {"~": draws, "@": Turns(seed)}))

    def combinations(self, template: str, seed: int) -> Iterator[str]:
        """Every different text of ``template``, in order; ``seed`` is for choices that are marked as random.

        :raises LatentdError: as :meth:`draw`, which texts that are the same count towards.
        """
        chooser, seen, number = Combinations(), set[str](), 0
        while True:
            scope = _Scope(0, chooser, {"~": Draws(seed + number), "@": Turns(number)})
            text = self._text(template, scope)
            if text not in seen:
                seen.add(text)
                number += 1
                yield text
            if not chooser.advance():
                return

    def _text(self, template: str, scope: _Scope) -> str:
        self._work = 0
        return self._checked(self._write(self._content(template), scope))

    def _content(self, text: str) -> Content:
        if text not in self._parsed:
            self._spend(len(text) // 64)
            self._parsed[text] = parse(text)
        return self._parsed[text]

    def _spend(self, steps: int) -> None:
        self._work += steps
        self._work_together += steps
        if self._work > MOST_WORK or self._work_together > MOST_WORK_TOGETHER:
            raise TooLarge(
                "the prompt template takes too many steps to expand", hint="use shorter lists or fewer groups"
            )

    def _checked(self, text: str) -> str:
        self._spend(len(text) // 64)
        if len(text) > self._longest:
            raise TooLarge(
                f"the prompt template makes a text of over {self._longest} characters", hint="--max-prompt-length"
            )
        return text

    # --- the parts of a template -------------------------------------------------------------------------------------

    def _write(self, content: Content, scope: _Scope) -> str:
        """The text of ``content``. Its assignments come first, wherever they stand."""
        self._spend(len(content))
        for part in content:
            if isinstance(part, Assignment):
                scope = self._assign(part, scope)
        return self._checked("".join(self._node(part, scope) for part in content))

    def _node(self, part: Node, scope: _Scope) -> str:
        match part:
            case str():
                return part
            case Choice():
                return self._choice(part, scope.by(part.sampler).inner())
            case Wildcard():
                return self._wildcard(part, scope.inner())
            case Variable():
                return self._variable(part, scope.inner())
            case Wrap():
                before, after = _around(self._write(part.wrapper, scope.inner()))
                return before + self._write(part.inner, scope.inner()) + after
            case Assignment():
                return ""

    def _assign(self, part: Assignment, scope: _Scope) -> _Scope:
        if part.keeps and part.name in scope.variables:
            return scope
        value = (self._write(part.value, scope.inner()),) if part.immediate else part.value
        return replace(scope, variables={**scope.variables, part.name: value})

    def _variable(self, part: Variable, scope: _Scope) -> str:
        value = scope.variables.get(part.name, part.default)
        if value is None:
            raise InvalidRequest(f"prompt template: the variable {part.name!r} has no value")
        if part.name in scope.within:
            raise InvalidRequest(f"prompt template: the variable {part.name!r} is part of its own value")
        return self._write(value, replace(scope, within=scope.within | {part.name}))

    def _choice(self, part: Choice, scope: _Scope) -> str:
        contents: Sequence[Content] = [option.content for option in part.options]
        if len(contents) == 1:
            only = contents[0]
            if len(only) == 1 and isinstance(only[0], Wildcard):
                return self._several(part, only[0], scope)
            return self._write(only, scope)
        weights = [option.weight for option in part.options]
        chosen = self._places(part, weights, scope.chooser)
        return _joined([self._write(contents[place], scope) for place in chosen], part.separator)

    def _several(self, part: Choice, wildcard: Wildcard, scope: _Scope) -> str:
        """``{2$$__list__}``: some of the list's entries."""
        scope = self._inside(wildcard, scope)
        found = self._entries(wildcard, scope)
        if not found.texts:
            return wildcard.written
        chosen = self._places(part, found.weights or [1.0] * len(found.texts), scope.chooser)
        return _joined([self._write(self._content(found.texts[place]), scope) for place in chosen], part.separator)

    def _places(self, part: Choice, weights: Sequence[float], chooser: Chooser) -> list[int]:
        """Different places of ``weights``, as many as ``part`` asks for and there are."""
        left, weights = list(range(len(weights))), list(weights)
        chosen = []
        for _ in range(chooser.number(min(part.least, len(left)), min(part.most, len(left)))):
            self._spend(1 + len(left) // 16)
            place = chooser.option(weights)
            chosen.append(left.pop(place))
            del weights[place]
        return chosen

    def _wildcard(self, part: Wildcard, scope: _Scope) -> str:
        scope = self._inside(part, scope.by(part.sampler))
        found = self._entries(part, scope)
        if not found.texts:
            return part.written
        place = scope.chooser.entry(len(found.texts), found.weights)
        return self._write(self._content(found.texts[place]), scope)

    def _inside(self, part: Wildcard, scope: _Scope) -> _Scope:
        """Within a list, whose brackets may give values to variables."""
        return replace(scope, variables={**scope.variables, **dict(part.variables)}) if part.variables else scope

    def _entries(self, part: Wildcard, scope: _Scope) -> Entries:
        name = self._write(part.name, scope)
        if name not in self._found:
            self._lists = self._lists or self._folders.now()
            self._found[name] = self._lists.entries(name)
            self._spend(len(self._found[name].texts) // 16)
        found = self._found[name]
        if found.weights is not None:
            self._spend(len(found.weights) // 16)
        if not found.texts:
            self.missing.setdefault(name)
        return found


def _joined(texts: list[str], separator: str) -> str:
    """The texts with ``separator`` between them; an empty one at either end leaves none there."""
    if len(texts) == 1:
        return texts[0]
    return separator.join(texts).removeprefix(separator).removesuffix(separator)


def _around(wrapper: str) -> tuple[str, str]:
    """What stands before and after the ellipsis of ``wrapper``."""
    mark = _ELLIPSIS.search(wrapper)
    return (wrapper[: mark.start()], wrapper[mark.end() :]) if mark else (wrapper, "")
