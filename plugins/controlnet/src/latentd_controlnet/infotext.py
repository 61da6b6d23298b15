"""Units in infotexts, written and read: ``ControlNet 0: "Module: canny, Model: x, Weight: 1.0, ..."``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from latentd.api import JsonValue

KEYS = {
    "Module": "module",
    "Model": "model",
    "Weight": "weight",
    "Resize Mode": "resize_mode",
    "Processor Res": "processor_res",
    "Threshold A": "threshold_a",
    "Threshold B": "threshold_b",
    "Guidance Start": "guidance_start",
    "Guidance End": "guidance_end",
    "Pixel Perfect": "pixel_perfect",
    "Control Mode": "control_mode",
}
"""Key of the infotext → field of a unit."""
MOST_UNITS = 64
_TRUTH = {"True": True, "False": False}


def write_unit(values: Mapping[str, object]) -> str | None:
    """The text of a unit with these ``values`` by key; None if one has a comma or colon and cannot be read back."""
    if any(mark in str(value) for value in values.values() for mark in ",:"):
        return None
    return ", ".join(f"{key}: {value}" for key, value in values.items())


def read_unit(text: str) -> dict[str, JsonValue]:
    """The fields of the unit that ``text`` describes, without unknown keys."""
    pairs = (entry.strip().partition(": ") for entry in text.split(","))
    return {KEYS[key]: _TRUTH.get(value, value) for key, _, value in pairs if key in KEYS}


def units_of(entries: Mapping[str, JsonValue]) -> dict[int, dict[str, JsonValue]]:
    """The units in the ``entries`` of an infotext, by number."""
    texts = {number: entries.get(f"ControlNet {number}") for number in range(MOST_UNITS)}
    return {number: read_unit(text) for number, text in texts.items() if isinstance(text, str)}


def completed(given: Sequence[JsonValue], told: Mapping[int, Mapping[str, JsonValue]]) -> list[JsonValue]:
    """``given``; a unit that names neither module nor model is completed from the unit of its number in ``told``."""
    units: list[JsonValue] = []
    for number, unit in enumerate(given):
        bare = isinstance(unit, Mapping) and not {"module", "model"}.intersection(unit)
        units.append({**told.get(number, {}), **unit} if bare else unit)
    return units
