"""The state of each plugin: the rows of ``latentd plugins`` and ``GET /latentd/v1/plugins``."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import Literal

from latentd.types import JsonValue

State = Literal["loaded", "failed", "withdrawn", "disabled"]


@dataclass(slots=True, kw_only=True)
class PluginStatus:
    """The state of one plugin. ``error`` is one sentence, ``traceback`` all details; both are None while it runs.

    ``state`` is ``loaded``; ``failed`` (nothing of it was registered); ``withdrawn`` (its start-up raised an exception,
    its routes answer 503); or ``disabled`` (installed and not wanted).
    """

    name: str
    distribution: str | None = None
    version: str | None = None
    builtin: bool = False
    state: State = "loaded"
    error: str | None = None
    traceback: str | None = None
    contributes: dict[str, list[str]] = field(default_factory=dict)

    def fail(self, error: BaseException, *, state: State = "failed") -> None:
        """Record why the plugin does not run."""
        self.state = state
        self.error = f"{type(error).__name__}: {error}" if not isinstance(error, PluginRefused) else str(error)
        self.traceback = "".join(traceback.format_exception(error))
        self.contributes = {}

    def row(self) -> dict[str, JsonValue]:
        """All fields as a mapping ready for JSON."""
        return {
            "name": self.name,
            "distribution": self.distribution,
            "version": self.version,
            "builtin": self.builtin,
            "state": self.state,
            "error": self.error,
            "traceback": self.traceback,
            "contributes": self.contributes,
        }


class PluginRefused(Exception):
    """The host does not load a plugin; the message is one sentence that says why and what to do."""
