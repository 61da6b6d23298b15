"""A short way to declare an option."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict, Unpack

from latentd.contributions import Affects, OptionSpec
from latentd.types import JsonValue


class OptionFacets(TypedDict, total=False):
    """The fields of :class:`OptionSpec` beside key, default and help."""

    affects: Affects
    minimum: float | None
    maximum: float | None
    choices: Sequence[str] | Callable[[], Sequence[str]] | None
    nullable: bool
    infotext: str | None
    api_writable: bool
    section: str


def declare(key: str, default: JsonValue, help_text: str, **facets: Unpack[OptionFacets]) -> OptionSpec:
    """The :class:`OptionSpec` of ``key``; ``facets`` are its further fields."""
    return OptionSpec(key=key, default=default, help=help_text, **facets)
