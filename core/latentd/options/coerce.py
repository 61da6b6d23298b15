"""Converting any JSON value to the type, range and choices of an option."""

from __future__ import annotations

import math

from latentd.contributions import OptionSpec
from latentd.errors import InvalidRequest, near_matches
from latentd.options.storable import why_not_storable
from latentd.types import JsonValue

TRUE = frozenset({"true", "1", "on", "yes", "y", "t"})
FALSE = frozenset({"false", "0", "off", "no", "n", "f", ""})


def coerce(spec: OptionSpec, value: JsonValue) -> JsonValue:
    """``value`` as the type of the option's default, clamped to its range.

    Null becomes the default if the option cannot be null. Text is compared with the fixed choices regardless of case.

    :raises InvalidRequest: the value cannot be read as that type, is none of the fixed choices, or cannot be stored.
    """
    if value is None:
        return None if spec.nullable else spec.default
    if (problem := why_not_storable(value)) is not None:
        raise InvalidRequest(f"option {spec.key!r} cannot be stored: {problem}")
    if isinstance(spec.default, bool):
        return _truth(spec, value)
    if isinstance(spec.default, int):
        return int(_clamped(spec, _number(spec, value)))
    if isinstance(spec.default, float):
        return float(_clamped(spec, _number(spec, value)))
    if isinstance(spec.default, list):
        return _names(spec, value)
    if isinstance(spec.default, dict):
        return _object(spec, value)
    return _chosen(spec, _text(spec, value))


def reply_value(spec: OptionSpec, value: JsonValue) -> JsonValue:
    """``value`` as ``GET /sdapi/v1/options`` types it: whole numbers with a default other than 0 are floats."""
    whole = isinstance(spec.default, int) and not isinstance(spec.default, bool)
    return float(value) if whole and spec.default and value is not None else value


def _refused(spec: OptionSpec, value: JsonValue, wanted: str, hint: str | None = None) -> InvalidRequest:
    shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    return InvalidRequest(f"option {spec.key!r}: {shown} is not {wanted}", hint=hint)


def _truth(spec: OptionSpec, value: JsonValue) -> bool:
    if isinstance(value, (bool, int, float)):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in TRUE | FALSE:
        return value.strip().lower() in TRUE
    raise _refused(spec, value, "true or false")


def _number(spec: OptionSpec, value: JsonValue) -> float:
    if isinstance(value, (bool, int, float, str)):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise _refused(spec, value, "a number")


def _clamped(spec: OptionSpec, number: float) -> float:
    if spec.minimum is not None:
        number = max(number, spec.minimum)
    if spec.maximum is not None:
        number = min(number, spec.maximum)
    return number


def _text(spec: OptionSpec, value: JsonValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise _refused(spec, value, "text")


def _names(spec: OptionSpec, value: JsonValue) -> list[JsonValue]:
    if isinstance(value, str):
        return [name for part in value.split(",") if (name := part.strip())]
    if isinstance(value, (list, tuple)) and not any(isinstance(entry, (list, tuple, dict)) for entry in value):
        return list(value)
    raise _refused(spec, value, "a list of texts or numbers")


def _object(spec: OptionSpec, value: JsonValue) -> dict[str, JsonValue]:
    if isinstance(value, dict):
        return dict(value)
    raise _refused(spec, value, "an object")


def _chosen(spec: OptionSpec, text: str) -> str:
    # Choices that are known only at run time (files, plugins) are checked by the code that uses them.
    if spec.choices is None or callable(spec.choices) or text in spec.choices:
        return text
    for choice in spec.choices:
        if choice.lower() == text.lower():
            return choice
    known = ", ".join(repr(choice) for choice in spec.choices)
    raise _refused(spec, text, f"one of {known}", near_matches(text, spec.choices))
