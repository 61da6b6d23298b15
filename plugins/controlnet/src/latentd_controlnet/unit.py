"""A unit of a request: one control with its picture, read from all forms that clients have sent since 2023."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from latentd.api import InvalidRequest, JsonValue
from latentd_controlnet.enums import (
    ControlMode,
    HiresOption,
    ResizeMode,
    read_control_mode,
    read_hires_option,
    read_resize_mode,
    read_union_type,
)

Style = Literal["alwayson", "seed"]
#: Alias → field. If both are sent, the field's own name counts.
ALIASES = {
    "input_image": "image",
    "mask_image": "mask",
    "lowvram": "low_vram",
    "guidance": "guidance_end",
    "guess_mode": "guessmode",
    "scribble_mode": "invert_image",
}
#: The order of a unit's values in the flat lists of March 2023, which begin with the boolean ``enabled``.
POSITIONAL = (
    "enabled", "module", "model", "weight", "image", "invert_image", "resize_mode", "rgbbgr_mode", "low_vram",
    "processor_res", "threshold_a", "threshold_b", "guidance_start", "guidance_end", "guessmode",
)  # fmt: skip
#: A resolution and thresholds of 64 were "the module's own" in March 2023, and some clients still send them.
SEED_DEFAULT = 64
MAX_WEIGHTS = 64
MAX_TOLD = 20
_LONGEST_KEY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One control as the request has it; ``image``, ``mask`` and ``region`` are not decoded yet.

    ``processor_res`` and the thresholds are negative if the module's own values are wanted.
    """

    number: int
    enabled: bool = True
    module: str = "none"
    model: str = "None"
    weight: float = 1.0
    image: JsonValue = None
    mask: JsonValue = None
    resize_mode: ResizeMode = ResizeMode.CROP
    processor_res: float = -1
    threshold_a: float = -1
    threshold_b: float = -1
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    control_mode: ControlMode = ControlMode.BALANCED
    pixel_perfect: bool = False
    crop_to_mask: bool = True
    hires: HiresOption = HiresOption.BOTH
    save_map: bool = True
    advanced_weighting: tuple[float, ...] | None = None
    region: JsonValue = None
    union_type: int | None = None
    embedding: JsonValue = None
    invert_image: bool = False
    reverse_channels: bool = False
    style: Style = field(default="alwayson")

    @property
    def is_empty(self) -> bool:
        """Whether the unit has neither picture nor module nor model, like the default unit of the web page."""
        names = {self.module.lower(), self.model.lower()}
        return names <= {"none"} and not any((self.mask, self.region, self.embedding)) and not _has_picture(self.image)

    def error(self, words: str, *, hint: str | None = None) -> InvalidRequest:
        """A 422 that names this unit."""
        return InvalidRequest(f"controlnet unit {self.number}: {words}", hint=hint)


def read_units(args: JsonValue, *, style: Style = "alwayson") -> list[Unit]:
    """The units of ``args`` that are enabled and ask for something.

    :param args: a list of objects, one object, or the flat lists of March 2023.
    :raises InvalidRequest: an entry is not a unit, or has an invalid value; the message names the unit and the field.
    """
    units = [read_unit(entry, number, style=style) for number, entry in _entries(args) if entry is not None]
    return [unit for unit in units if unit.enabled and not unit.is_empty]


def unknown_keys(args: JsonValue) -> list[str]:
    """Unknown keys with values in enabled units, in a few words each, at most :data:`MAX_TOLD` of them."""
    return [
        f"{str(key)[:_LONGEST_KEY]!r} of unit {number}"
        for number, entry in _entries(args)
        if isinstance(entry, Mapping) and entry.get("enabled") is not False
        for key, value in entry.items()
        if value and str(key).removeprefix("controlnet_") not in _KNOWN
    ][:MAX_TOLD]


def _entries(args: JsonValue) -> list[tuple[int, JsonValue]]:
    """The entries of ``args`` with their numbers.

    :raises InvalidRequest: ``args`` is not a list of units.
    """
    if isinstance(args, Mapping):
        listed = args.get("units")
        args = listed if isinstance(listed, Sequence) else [args]
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        raise InvalidRequest("controlnet args must be a list of units")
    return list(enumerate(_unfolded(args)))


def _unfolded(args: Sequence[JsonValue]) -> list[JsonValue]:
    """Flat positional values as objects; each True or False in the first position of a unit begins one."""
    units: list[JsonValue] = []
    rest = list(args)
    while rest:
        if isinstance(rest[0], bool):
            units.append(dict(zip(POSITIONAL, rest, strict=False)))
            rest = rest[len(POSITIONAL) :]
        else:
            units.append(rest.pop(0))
    return units


def read_unit(entry: JsonValue, number: int, *, style: Style = "alwayson") -> Unit:
    """The unit that ``entry`` describes; unknown keys are ignored.

    :raises InvalidRequest: a value is invalid.
    """
    if isinstance(entry, Unit):
        return entry
    if not isinstance(entry, Mapping):
        raise InvalidRequest(f"controlnet unit {number}: a unit is an object, not {type(entry).__name__}")
    given = {str(key).removeprefix("controlnet_"): value for key, value in entry.items()}
    if style == "seed":
        given = _seed_window(given)
    given = _without_aliases(given)
    if style == "alwayson" and _means_seed_defaults(given):
        given = {k: v for k, v in given.items() if k not in ("processor_res", "threshold_a", "threshold_b")}
    if style == "seed":
        given = _seed_parameters(given)
    values: dict[str, JsonValue] = {"number": number, "style": style}
    for key, value in given.items():
        if value is None or key not in _READERS:
            continue
        name, read = _READERS[key]
        try:
            values[name] = read(value)
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidRequest(f"controlnet unit {number}: {key} is {_short(value)}; it must be {error}") from error
    try:
        values["control_mode"] = _control_mode(values, given, style)
    except ValueError as error:
        guess = _short(given.get("guessmode"))
        raise InvalidRequest(f"controlnet unit {number}: guessmode is {guess}; it must be {error}") from error
    unit = Unit(**values)
    if unit.guidance_start > unit.guidance_end:
        raise unit.error(f"guidance_start({unit.guidance_start}) > guidance_end({unit.guidance_end})")
    return unit


def _seed_window(given: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The fields with ``guidance_end`` as in March 2023: replaced by ``guidance`` if that is below its default of 1."""
    guidance = given.get("guidance")
    if isinstance(guidance, int | float) and guidance < 1:
        return {key: value for key, value in given.items() if key != "guidance_end"}
    return given


def _without_aliases(given: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for other, name in ALIASES.items():
        if other in given:
            value = given.pop(other)
            if given.get(name) is None:
                given[name] = value
    return given


def _means_seed_defaults(given: Mapping[str, JsonValue]) -> bool:
    return all(given.get(key) == SEED_DEFAULT for key in ("processor_res", "threshold_a", "threshold_b"))


def _seed_parameters(given: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The fields as in March 2023: a resolution up to its default of 64 means the module's values and thresholds."""
    resolution = given.get("processor_res", SEED_DEFAULT)
    if not isinstance(resolution, int | float) or resolution > SEED_DEFAULT:
        return given
    return {k: v for k, v in given.items() if k not in ("processor_res", "threshold_a", "threshold_b")}


def _control_mode(values: Mapping[str, JsonValue], given: Mapping[str, JsonValue], style: Style) -> ControlMode:
    """``control_mode``, or else the mode for ``guessmode``: mode 2 if true, which was the first routes' default."""
    if "control_mode" in values:
        mode: ControlMode = values["control_mode"]
        return mode
    guess = given.get("guessmode")
    if guess is None:
        guess = style == "seed"
    return ControlMode.CONTROL if _flag(guess) else ControlMode.BALANCED


def _flag(value: JsonValue) -> bool:
    if isinstance(value, str):
        lowered = value.strip().lower()
        if lowered in ("true", "1", "yes", "on"):
            return True
        if lowered in ("false", "0", "no", "off", ""):
            return False
        raise ValueError("true or false")
    return bool(value)


def _number(value: JsonValue) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("a number")
    return number


#: With a larger scale of a layer the result is NaN.
LARGEST_WEIGHT = 1000.0


def _between(low: float, high: float) -> Callable[[JsonValue], float]:
    def read(value: JsonValue) -> float:
        number = _number(value)
        if not low <= number <= high:
            raise ValueError(f"between {low:g} and {high:g}")
        return number

    return read


def _resolution(value: JsonValue) -> float:
    number = _number(value)
    return int(number) if number == int(number) else number


def _name(value: JsonValue) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return value.strip() or "none"


def _weights(value: JsonValue) -> tuple[float, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not 0 < len(value) <= MAX_WEIGHTS:
        raise ValueError("a list of numbers")
    return tuple(_between(-LARGEST_WEIGHT, LARGEST_WEIGHT)(item) for item in value)


def _has_picture(image: JsonValue) -> bool:
    if isinstance(image, Mapping):
        return bool(image.get("image"))
    if isinstance(image, list | tuple):
        return any(_has_picture(item) for item in image)
    return image is not None and image != ""


def _as_is(value: JsonValue) -> JsonValue:
    return value or None if isinstance(value, str | list | dict | bool | int | float) else value


_READERS: dict[str, tuple[str, Callable[[JsonValue], JsonValue]]] = {
    "enabled": ("enabled", _flag),
    "module": ("module", _name),
    "model": ("model", _name),
    "weight": ("weight", _between(-1, 4)),
    "image": ("image", _as_is),
    "mask": ("mask", _as_is),
    "resize_mode": ("resize_mode", read_resize_mode),
    "processor_res": ("processor_res", _resolution),
    "threshold_a": ("threshold_a", _number),
    "threshold_b": ("threshold_b", _number),
    "guidance_start": ("guidance_start", _between(0, 1)),
    "guidance_end": ("guidance_end", _between(0, 1)),
    "control_mode": ("control_mode", read_control_mode),
    "pixel_perfect": ("pixel_perfect", _flag),
    "inpaint_crop_input_image": ("crop_to_mask", _flag),
    "hr_option": ("hires", read_hires_option),
    "save_detected_map": ("save_map", _flag),
    "advanced_weighting": ("advanced_weighting", _weights),
    "effective_region_mask": ("region", _as_is),
    "union_control_type": ("union_type", read_union_type),
    "ipadapter_input": ("embedding", _as_is),
    "invert_image": ("invert_image", _flag),
    "rgbbgr_mode": ("reverse_channels", _flag),
}


#: The fields of a unit; other keys are aliases or have no effect.
FIELDS = frozenset({*_READERS, "guessmode"})
#: Keys that the original's page and other extensions send, and that its API ignores.
PASSED_OVER = frozenset(
    {
        "is_ui", "input_mode", "batch_images", "output_dir", "loopback", "low_vram", "pulid_mode", "batch_mask_dir",
        "animatediff_batch", "batch_modifiers", "batch_image_files", "batch_keyframe_idx",
    }
)  # fmt: skip
_KNOWN = FIELDS | PASSED_OVER | frozenset(ALIASES)


def _short(value: JsonValue) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
