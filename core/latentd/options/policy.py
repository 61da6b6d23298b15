"""Which options may be written, and over which way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.contributions import OptionSpec
from latentd.errors import NotConfigured
from latentd.options.storable import is_text
from latentd.types import JsonValue, OptionValues

if TYPE_CHECKING:
    from latentd.settings import Paths, Settings

FOLDER_PREFIX = "outdir_"
FONT = "font"
FONTS = "fonts"
#: Folders below the data folder that AUTOMATIC1111's versions and latentd write pictures to.
OUTPUTS = ("output", "outputs", "log")
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
    """Which writes of options the flags and the safety rules forbid.

    :param paths: turn the values of options into paths; None if folders and files are not restricted.
    :param outputs: absolute folders in which folders named over the API must lie; links are followed.
    :param fonts: absolute folders in which a font named over the API must lie; links are followed.
    """

    frozen: bool = False
    frozen_sections: frozenset[str] = frozenset()
    frozen_keys: frozenset[str] = frozenset()
    hide_folders: bool = False
    paths: Paths | None = None
    outputs: tuple[Path, ...] = ()
    fonts: tuple[Path, ...] = ()

    @classmethod
    def from_settings(cls, settings: Settings) -> WritePolicy:
        """The policy that the flags ask for."""
        return cls(
            frozen=settings.freeze_settings,
            frozen_sections=_names(settings.freeze_settings_in_sections),
            frozen_keys=_names(settings.freeze_specific_settings),
            hide_folders=settings.hide_ui_dir_config,
            paths=settings.paths,
            outputs=tuple(settings.paths.resolve(folder) for folder in (*OUTPUTS, *settings.output_dir)),
            fonts=(settings.paths.data / FONTS,),
        )

    def with_outputs(self, stored: OptionValues) -> WritePolicy:
        """The policy that also allows the folders in config.json at start, since the operator wrote them there."""
        if self.paths is None:
            return self
        named = (
            self.paths.resolve(value)
            for key, value in stored.items()
            if key.startswith(FOLDER_PREFIX) and isinstance(value, str) and value and is_text(value)
        )
        # In a folder above the models, pictures could be written among them.
        safe = [folder for folder in named if not self.paths.data.resolve().is_relative_to(folder.resolve())]
        return replace(self, outputs=tuple(dict.fromkeys([*self.outputs, *safe])))

    def objection(self, spec: OptionSpec, value: JsonValue) -> str | None:
        """Why a write of ``value`` over the API is ignored, though it does not fail; None if it is carried out."""
        if not spec.api_writable:
            return "it is not writable over the API"
        if self.hide_folders and (spec.key in NAMING or spec.key.startswith(FOLDER_PREFIX)):
            return "--hide-ui-dir-config"
        if spec.key.startswith(FOLDER_PREFIX) and value != spec.default and not self._within(value, self.outputs):
            return "the folder lies outside the output folders (--output-dir)"
        if spec.key == FONT and value and not self._within(value, self.fonts):
            return f"over the API only a file in the data folder's {FONTS!r} may be named"
        return None

    def check_unfrozen(self, spec: OptionSpec) -> None:
        """Refuse a change of a frozen option.

        :raises NotConfigured: a flag forbids changing this option.
        """
        if self.frozen:
            raise NotConfigured("changing settings is disabled", hint="the server runs with --freeze-settings")
        if spec.section in self.frozen_sections or spec.key in self.frozen_keys:
            raise NotConfigured(
                f"changing {spec.key!r} is disabled",
                hint="see --freeze-settings-in-sections and --freeze-specific-settings",
            )

    def _within(self, value: str, roots: Sequence[Path]) -> bool:
        """Whether the path lies in one of ``roots``, by the rules of Windows and those of this system."""
        if self.paths is None:
            return True
        if not is_text(value) or ".." in value.replace("\\", "/").split("/"):
            return False
        try:
            path = self.paths.resolve(value).resolve()
        except (RuntimeError, OSError):  # no such user's home; a loop of links; a name that is too long
            return False
        return any(path.is_relative_to(root.resolve()) for root in roots)


def _names(text: str | None) -> frozenset[str]:
    return frozenset(name.strip() for name in (text or "").split(",") if name.strip())
