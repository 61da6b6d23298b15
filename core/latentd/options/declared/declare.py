"""A short way to declare an option."""

from __future__ import annotations

from typing import Any

from latentd.contributions import OptionSpec


def declare(key: str, default: Any, help_text: str, **facets: Any) -> OptionSpec:
    """The :class:`OptionSpec` of ``key``; ``facets`` are its further fields."""
    return OptionSpec(key=key, default=default, help=help_text, **facets)
