"""Which of the installed plugins are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentd.plugins.discovery import answers_to

if TYPE_CHECKING:
    from latentd.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The flags about plugins. ``only`` None means every installed plugin."""

    core_only: bool = False
    only: tuple[str, ...] | None = None
    disabled: tuple[str, ...] = ()
    required: tuple[str, ...] = ()

    @classmethod
    def from_settings(cls, settings: Settings) -> Selection:
        """What ``--core-only``, ``--plugins``, ``--disable-plugin`` and ``--require-plugin`` say."""
        return cls(
            core_only=settings.core_only,
            only=settings.plugins,
            disabled=settings.disable_plugin,
            required=settings.require_plugin,
        )

    def refusal(self, name: str, distribution: str | None) -> str | None:
        """Why the plugin is not loaded, or None when it is wanted."""
        if self.core_only:
            return "--core-only"
        if answers_to(self.disabled, name, distribution):
            return "--disable-plugin"
        if self.only is not None and not answers_to(self.only, name, distribution):
            return "not among the plugins that --plugins or LATENTD_PLUGINS names"
        return None
