"""Options of early 2023 and their present counterparts (rules: a1111-early-options)."""

from __future__ import annotations

from latentd.types import JsonValue, OptionValues

VAE_OLD, VAE_NEW = "sd_vae_as_default", "sd_vae_overrides_per_model_preferences"
EMPHASIS_OLD, EMPHASIS_NEW = "enable_emphasis", "emphasis"
LISTS = {"quicksettings": "quicksettings_list", "ui_reorder": "ui_reorder_list"}
NO_EMPHASIS, EMPHASIS = "None", "Original"


def with_counterparts(changes: OptionValues, current: OptionValues) -> dict[str, JsonValue]:
    """``changes``, and the corresponding changes of options that mean the same under another name.

    If both options of a pair change, the newer one counts.
    """
    complete = dict(changes)
    if VAE_NEW in changes:
        complete[VAE_OLD] = not changes[VAE_NEW]
    elif VAE_OLD in changes:
        complete[VAE_NEW] = not changes[VAE_OLD]
    if EMPHASIS_NEW in changes:
        complete[EMPHASIS_OLD] = changes[EMPHASIS_NEW] != NO_EMPHASIS
    elif EMPHASIS_OLD in changes:
        now = current.get(EMPHASIS_NEW, EMPHASIS)
        wanted = now if now != NO_EMPHASIS else EMPHASIS
        complete[EMPHASIS_NEW] = wanted if changes[EMPHASIS_OLD] else NO_EMPHASIS
    return complete


def migrated(stored: OptionValues) -> dict[str, JsonValue]:
    """The contents of a config.json; missing new keys are filled from old ones."""
    values = dict(stored)
    if VAE_OLD in values and VAE_NEW not in values:
        values[VAE_NEW] = not values[VAE_OLD]
    if EMPHASIS_OLD in values and EMPHASIS_NEW not in values:
        values[EMPHASIS_NEW] = EMPHASIS if values[EMPHASIS_OLD] else NO_EMPHASIS
    for old, new in LISTS.items():
        if isinstance(values.get(old), str) and new not in values:
            values[new] = [name for part in values[old].split(",") if (name := part.strip())]
    return values
