"""The script's arguments as clients send them: a list that begins with two switches, or an object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from latentd.api import DetectorSpec, InvalidRequest, JsonValue, RawArgs
from latentd_detailer.unit import Unit

MOST_UNITS = 16
_LONGEST_KEY = 60
_MOST_TOLD = 20
_UNITS = TypeAdapter(dict[int, Unit])
_SWITCHES = ("enabled", "skip_img2img")


class DetailerBody(BaseModel):
    """``alwayson_scripts.ADetailer.args`` as an object, in the documentation of the API."""

    model_config = ConfigDict(extra="allow")

    enabled: bool = Field(True, description="In a list of arguments the first; may be left out there.")
    skip_img2img: bool = Field(False, description="The second: detail img2img's pictures without img2img.")
    units: list[Unit] = Field(default_factory=list, description="In a list: the objects after the switches.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """A unit that acts, its number in the request from 0, and its detector once the request is planned."""

    number: int
    unit: Unit
    detector: DetectorSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DetailerArgs:
    """What is asked for.

    :ivar units: the units that act.
    :ivar skip_img2img: whether img2img's own pictures are detailed in place of its results.
    :ivar asked: with ``skip_img2img``, the steps, width and height of the request.
    """

    units: tuple[Numbered, ...]
    skip_img2img: bool = False
    asked: tuple[int, int, int] | None = None


def read_arguments(args: RawArgs) -> DetailerArgs | None:
    """The arguments, or None if they ask for nothing.

    :raises pydantic.ValidationError: a value of a unit is invalid.
    :raises InvalidRequest: there are too many units.
    """
    switches, units = _parts(args)
    if not switches.get("enabled", True) or not units:
        return None
    if len(units) > MOST_UNITS:
        raise InvalidRequest(f"ADetailer takes at most {MOST_UNITS} units, not {len(units)}")
    read = _UNITS.validate_python({place: _given(unit) for place, unit in units.items()})
    acting = tuple(Numbered(number=number, unit=unit) for number, unit in enumerate(read.values()) if not unit.is_off)
    return DetailerArgs(units=acting, skip_img2img=bool(switches.get("skip_img2img"))) if acting else None


def unread(args: RawArgs) -> list[str]:
    """What of ``args`` has no effect, in a few words each."""
    switches, units = _parts(args)
    if not switches.get("enabled", True):
        return []
    return [*_strangers(args, units), *_unknown(units)][:_MOST_TOLD]


def _parts(args: RawArgs) -> tuple[dict[str, bool], dict[int, Mapping[str, JsonValue]]]:
    """The switches that are given, by name, and the units by their places among the arguments."""
    if isinstance(args, Mapping):
        switches = {name: bool(args[name]) for name in _SWITCHES if name in args}
        listed = args.get("units")
        # An object without units is a unit itself.
        return switches, _objects(listed if isinstance(listed, list) else [args] if _is_unit(args) else [])
    listed = _listed(args)
    leading = list(takewhile(lambda value: isinstance(value, bool), listed[: len(_SWITCHES)]))
    return dict(zip(_SWITCHES, leading, strict=False)), _objects(listed)


def _listed(args: RawArgs) -> list[JsonValue]:
    """The arguments as a list; what is neither list nor object has none."""
    return list(args) if isinstance(args, list | tuple) else []


def _objects(listed: Sequence[JsonValue]) -> dict[int, Mapping[str, JsonValue]]:
    return {place: value for place, value in enumerate(listed) if isinstance(value, Mapping)}


def _is_unit(args: Mapping[str, JsonValue]) -> bool:
    return any(str(key).startswith("ad_") for key in args)


def _given(unit: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A unit without its nulls, which mean defaults."""
    return {str(key): value for key, value in unit.items() if value is not None and key not in _SWITCHES}


def _strangers(args: RawArgs, units: Mapping[int, Mapping[str, JsonValue]]) -> Iterator[str]:
    """Arguments that are neither switch nor unit."""
    if not units:
        yield "arguments without a unit"
    for number, value in enumerate(_listed(args)):
        if value is not None and not isinstance(value, Mapping | bool):
            yield f"argument {number}, which is no unit"


def _unknown(units: Mapping[int, Mapping[str, JsonValue]]) -> Iterator[str]:
    for number, unit in enumerate(units.values()):
        if unit.get("ad_model", "None") == "None":
            continue
        for key, value in unit.items():
            if value is not None and key not in _KNOWN:
                yield f"{str(key)[:_LONGEST_KEY]!r} of unit {number}"


_KNOWN = frozenset({*Unit.model_fields, *_SWITCHES, "units", "ad_tap_enable", "ad_mask_k_largest"})
