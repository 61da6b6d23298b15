"""The body of ``GET /sdapi/v1/cmd-flags``."""

from __future__ import annotations

from latentd.settings.flag import FlagValue, declared_flags
from latentd.settings.paths import MODELS_PREFIX
from latentd.settings.settings import Settings

HIDDEN = "***"
FOLDERS = (
    "embeddings_dir",
    "textual_inversion_templates_dir",
    "localizations_dir",
    "ckpt",
    "config",
    "ui_config_file",
    "ui_settings_file",
)


def cmd_flags(settings: Settings) -> dict[str, FlagValue | list[str]]:
    """Every listed flag with its value, typed as in AUTOMATIC1111 1.8.0 (rules: a1111-cmd-flags).

    A flag whose default is null is text: a number given for it comes back as text. Folders are absolute, because
    clients use them to find files. ``api`` is always true. A secret is null if it is not set, else ``***``.
    """
    return {
        name: _shown(settings, name, default, secret=flag.secret)
        for name, (flag, default) in declared_flags(Settings).items()
        if flag.listed
    }


def _shown(settings: Settings, name: str, default: FlagValue, *, secret: bool) -> FlagValue | list[str]:
    value: FlagValue = getattr(settings, name)
    if secret and value:
        # ngrok_options is an object in the schema, so it cannot be replaced by a text.
        return {} if isinstance(value, dict) else HIDDEN
    if name == "api":
        return True
    if name == "data_dir":
        return str(settings.paths.data)
    if name == "styles_file":
        return list(settings.styles_file) or ["styles.csv"]
    if name == "gradio_allowed_path":
        return list(settings.gradio_allowed_path) or [str(settings.paths.data)]
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, str) and (name in FOLDERS or str(default).startswith(MODELS_PREFIX)):
        return str(settings.paths.place(value))
    if default is None and value is not None:
        return str(value)
    return value
