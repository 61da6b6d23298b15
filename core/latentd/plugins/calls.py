"""Calling a hook for one plugin at a time, so that failures can be attributed to a plugin.

Pluggy's own call runs all implementations together and in reverse order. Here they run in the order of the plugins'
names (``tryfirst`` before and ``trylast`` after the others).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pluggy


@dataclass(frozen=True, slots=True)
class Implementation:
    """One plugin's implementation of one hook."""

    plugin: str
    hook: str
    function: Callable[..., object]
    argument_names: tuple[str, ...]

    def __call__(self, arguments: Mapping[str, object]) -> object:
        """The result of a call with those of ``arguments`` that the implementation has as parameters."""
        return self.function(*(arguments[name] for name in self.argument_names))


def implementations(manager: pluggy.PluginManager, hook: str, *, plugin: str | None = None) -> list[Implementation]:
    """Every implementation of ``hook`` in the order of calls, or only that of ``plugin``."""
    found = getattr(manager.hook, hook).get_hookimpls()
    # A stable sort keeps the order of registration, which is that of names.
    ranked = sorted(found, key=lambda entry: (not entry.tryfirst, entry.trylast))
    return [
        Implementation(entry.plugin_name, hook, entry.function, tuple(entry.argnames))
        for entry in ranked
        if plugin is None or entry.plugin_name == plugin
    ]
