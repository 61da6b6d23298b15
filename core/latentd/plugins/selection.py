"""Which of the installed plugins are to be loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentd.errors import near_matches
from latentd.plugins.discovery import Candidate, answers_to, discover

if TYPE_CHECKING:
    from latentd.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The flags about plugins; ``only`` is None for all installed plugins."""

    core_only: bool = False
    only: tuple[str, ...] | None = None
    disabled: tuple[str, ...] = ()
    required: tuple[str, ...] = ()

    @classmethod
    def from_settings(cls, settings: Settings) -> Selection:
        """The selection by ``--core-only``, ``--plugins``, ``--disable-plugin`` and ``--require-plugin``."""
        return cls(
            core_only=settings.core_only,
            only=settings.plugins,
            disabled=settings.disable_plugin,
            required=settings.require_plugin,
        )

    def check_names(self, installed: Iterable[Candidate] | None = None) -> None:
        """Check that the plugins named by ``only`` and ``disabled`` are installed; required ones are checked later.

        :param installed: the installed plugins; by default those in the metadata of the environment.
        :raises ValueError: one is not installed; one sentence about the first.
        """
        plugins = list(discover() if installed is None else installed)
        for flag, names in (("--plugins", self.only or ()), ("--disable-plugin", self.disabled)):
            for wanted in names:
                if not any(answers_to([wanted], plugin.name, plugin.distribution) for plugin in plugins):
                    raise ValueError(f"{flag} {wanted}: {_no_such_plugin(wanted, plugins)}")

    def refusal(self, name: str, distribution: str | None) -> str | None:
        """Why the plugin is not loaded; None if it is wanted."""
        if self.core_only:
            return "--core-only"
        if answers_to(self.disabled, name, distribution):
            return "--disable-plugin"
        if self.only is not None and not answers_to(self.only, name, distribution):
            return "not among the plugins that --plugins or LATENTD_PLUGINS names"
        return None


def _no_such_plugin(wanted: str, installed: list[Candidate]) -> str:
    names = [plugin.name for plugin in installed]
    near = near_matches(wanted, names)
    known = "installed are " + ", ".join(names) if names else "none is installed"
    return f"there is no such plugin: {near or known}"
