"""The enumerations of a unit, in all spellings that clients send."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import TypeVar

from latentd.api import JsonValue

E = TypeVar("E", bound=IntEnum)


class ResizeMode(IntEnum):
    """How a control map is fitted to the picture."""

    STRETCH = 0
    CROP = 1
    FILL = 2

    @property
    def label(self) -> str:
        """The name that infotexts carry."""
        return ("Just Resize", "Crop and Resize", "Resize and Fill")[self]


class ControlMode(IntEnum):
    """Whether the prompt or the control has more influence."""

    BALANCED = 0
    PROMPT = 1
    CONTROL = 2

    @property
    def label(self) -> str:
        """The name that infotexts carry."""
        return ("Balanced", "My prompt is more important", "ControlNet is more important")[self]


class HiresOption(StrEnum):
    """The passes of hires fix in which a unit acts."""

    BOTH = "Both"
    LOW = "Low res only"
    HIGH = "High res only"


UNION_TYPES = (
    "OpenPose", "Depth", "Soft Edge", "Hard Edge", "Normal Map", "Segmentation", "Tile", "Inpaint",
)  # fmt: skip
#: The index of each type in a union model's task embedding; files with Tile and Inpaint have two more rows.
UNION_INDEX = {"openpose": 0, "depth": 1, "soft edge": 2, "hard edge": 3, "normal map": 4, "segmentation": 5,
               "tile": 6, "inpaint": 7}  # fmt: skip

_RESIZE = {
    "just resize": ResizeMode.STRETCH,
    "resize": ResizeMode.STRETCH,
    "crop and resize": ResizeMode.CROP,
    "inner fit (scale to fit)": ResizeMode.CROP,
    "scale to fit (inner fit)": ResizeMode.CROP,
    "inner_fit": ResizeMode.CROP,
    "resize and fill": ResizeMode.FILL,
    "outer fit (shrink to fit)": ResizeMode.FILL,
    "envelope (outer fit)": ResizeMode.FILL,
    "outer_fit": ResizeMode.FILL,
}
_CONTROL = {mode.label.lower(): mode for mode in ControlMode} | {
    "balanced": ControlMode.BALANCED,
    "prompt": ControlMode.PROMPT,
    "control": ControlMode.CONTROL,
}
_HIRES = {"both": HiresOption.BOTH, "low res only": HiresOption.LOW, "low": HiresOption.LOW,
          "high res only": HiresOption.HIGH, "high": HiresOption.HIGH}  # fmt: skip


def read_resize_mode(value: JsonValue) -> ResizeMode:
    """The resize mode that ``value`` names; 3, img2img's latent resize, means the stretch.

    :raises ValueError: ``value`` names no resize mode.
    """
    if _as_int(value) == 3:
        return ResizeMode.STRETCH
    return _read(value, ResizeMode, _RESIZE)


def read_control_mode(value: JsonValue) -> ControlMode:
    """The control mode that ``value`` names.

    :raises ValueError: ``value`` names no control mode.
    """
    return _read(value, ControlMode, _CONTROL)


def read_hires_option(value: JsonValue) -> HiresOption:
    """The hires option that ``value`` names.

    :raises ValueError: ``value`` names no hires option.
    """
    found = _HIRES.get(str(value).strip().lower())
    if found is None:
        raise ValueError("one of " + ", ".join(repr(str(option)) for option in HiresOption))
    return found


def read_union_type(value: JsonValue) -> int | None:
    """The index into a union model's task embedding; None for ``Unknown``.

    :raises ValueError: no such type.
    """
    name = str(value).strip().lower()
    if name in ("", "unknown", "none"):
        return None
    if name not in UNION_INDEX:
        raise ValueError("one of " + ", ".join(repr(kind) for kind in UNION_TYPES))
    return UNION_INDEX[name]


def _as_int(value: JsonValue) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float) and value == int(value):
        return int(value)
    if isinstance(value, str) and value.strip().isdigit():
        return int(value)
    return None


def _read(value: JsonValue, kind: type[E], names: Mapping[str, E]) -> E:
    number = _as_int(value)
    if number is not None and number in list(kind):
        return kind(number)
    name = str(value).strip().lower().removeprefix("resizemode.").removeprefix("controlmode.")
    if number is None and name in names:
        return names[name]
    raise ValueError("one of " + ", ".join(f"{int(member)} or {member.label!r}" for member in kind))  # type: ignore[attr-defined]
