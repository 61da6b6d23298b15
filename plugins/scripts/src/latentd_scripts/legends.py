"""The style of grids: the job's colours and font, or a font like AUTOMATIC1111's if none is set."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from latentd.api import JsonValue, LegendStyle


def legend_style(options: Mapping[str, JsonValue]) -> LegendStyle:
    """The style in the options; if option ``font`` is empty, with the font of this package."""
    return LegendStyle(
        font=options["font"] or str(files("latentd_scripts") / "fonts" / "Roboto-Regular.ttf"),
        active=options["grid_text_active_color"],
        inactive=options["grid_text_inactive_color"],
        background=options["grid_background_color"],
    )
