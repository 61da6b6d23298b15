"""Which options may be written, and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentd.contributions import OptionSpec
from latentd.errors import NotConfigured

if TYPE_CHECKING:
    from latentd.settings import Settings

FOLDER_PREFIX = "outdir_"
NAMING = frozenset(
    {
        "samples_filename_pattern",
        "directories_filename_pattern",
        "directories_max_prompt_words",
        "save_images_add_number",
        "save_images_replace_action",
        "grid_zip_filename_pattern",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WritePolicy:
    """What the flags about the settings file forbid.

    ``data``: the folder that output folders set over the API may not leave; None: no such bound.
    """

    frozen: bool = False
    frozen_sections: frozenset[str] = frozenset()
    frozen_keys: frozenset[str] = frozenset()
    hide_folders: bool = False
    data: Path | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> WritePolicy:
        """The policy that the flags ask for."""
        return cls(
            frozen=settings.freeze_settings,
            frozen_sections=_names(settings.freeze_settings_in_sections),
            frozen_keys=_names(settings.freeze_specific_settings),
            hide_folders=settings.hide_ui_dir_config,
            data=settings.paths.data,
        )

    def objection(self, spec: OptionSpec, value: Any) -> str | None:
        """Why a write of ``value`` over the API leaves the option as it is, without failing; None: it is written."""
        if not spec.api_writable:
            return "it is not writable over the API"
        if self.hide_folders and (spec.key in NAMING or spec.key.startswith(FOLDER_PREFIX)):
            return "--hide-ui-dir-config"
        if spec.key.startswith(FOLDER_PREFIX) and not self._stays_inside(value):
            return "the folder lies outside the data folder"
        return None

    def check_unfrozen(self, spec: OptionSpec) -> None:
        """:raises NotConfigured: a flag forbids changing this option."""
        if self.frozen:
            raise NotConfigured("changing settings is disabled", hint="the server runs with --freeze-settings")
        if spec.section in self.frozen_sections or spec.key in self.frozen_keys:
            raise NotConfigured(
                f"changing {spec.key!r} is disabled",
                hint="see --freeze-settings-in-sections and --freeze-specific-settings",
            )

    def _stays_inside(self, value: Any) -> bool:
        if self.data is None or not isinstance(value, str) or "\0" in value:
            return self.data is None
        return (self.data / value).resolve().is_relative_to(self.data.resolve())


def _names(text: str | None) -> frozenset[str]:
    return frozenset(name.strip() for name in (text or "").split(",") if name.strip())
