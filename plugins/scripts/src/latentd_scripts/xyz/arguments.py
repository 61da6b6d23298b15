"""The arguments of ``X/Y/Z plot``, in the order of 1.6 and later and in that of early 2023."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import field_validator

from latentd.api import InvalidRequest, JsonValue, RawArgs
from latentd_scripts.arguments import Arguments, control

_EARLY = (
    "x_type", "x_values", "y_type", "y_values", "z_type", "z_values",
    "draw_legend", "include_lone_images", "include_sub_grids", "no_fixed_seeds", "margin_size",
)  # fmt: skip


class XYZArgs(Arguments):
    """``script_args`` of ``X/Y/Z plot``.

    A type is an index of the list of axes of its tab, or the label of an axis. Axes with choices read the list in
    ``*_values_dropdown`` unless ``csv_mode`` is on.
    """

    x_type: int | str = control(1, "X type")
    x_values: str = control("", "X values", max_length=100_000)
    x_values_dropdown: list[str] = control([], "X values")
    y_type: int | str = control(0, "Y type")
    y_values: str = control("", "Y values", max_length=100_000)
    y_values_dropdown: list[str] = control([], "Y values")
    z_type: int | str = control(0, "Z type")
    z_values: str = control("", "Z values", max_length=100_000)
    z_values_dropdown: list[str] = control([], "Z values")
    draw_legend: bool = control(True, "Draw legend")
    include_lone_images: bool = control(False, "Include Sub Images")
    include_sub_grids: bool = control(False, "Include Sub Grids")
    no_fixed_seeds: bool = control(False, "Keep -1 for seeds")
    vary_seeds_x: bool = control(False, "Vary seeds for X")
    vary_seeds_y: bool = control(False, "Vary seeds for Y")
    vary_seeds_z: bool = control(False, "Vary seeds for Z")
    margin_size: int = control(0, "Grid margins (px)", minimum=0, maximum=500, step=2, ge=0, le=2000)
    csv_mode: bool = control(False, "Use text inputs instead of dropdowns")

    @field_validator("x_type", "y_type", "z_type", mode="before")
    @classmethod
    def _nothing(cls, value: JsonValue) -> JsonValue:
        return 0 if value is None else value

    @field_validator("x_values", "y_values", "z_values", mode="before")
    @classmethod
    def _text(cls, value: JsonValue) -> JsonValue:
        if isinstance(value, (list, tuple)):
            return ",".join(str(item) for item in value)
        return "" if value is None else str(value) if isinstance(value, (int, float)) else value

    @field_validator("x_values_dropdown", "y_values_dropdown", "z_values_dropdown", mode="before")
    @classmethod
    def _list(cls, value: JsonValue) -> JsonValue:
        if value is None or value == "":
            return []
        return value if isinstance(value, (list, tuple)) else [value]


def read_arguments(args: RawArgs, title: str) -> XYZArgs:
    """The arguments from an object, or from a list, whose order depends on its length.

    :raises InvalidRequest: a list of another length.
    :raises pydantic.ValidationError: a value does not fit.
    """
    if args is None or isinstance(args, Mapping):
        return XYZArgs.model_validate(args or {})
    names = list(XYZArgs.model_fields)
    if len(args) == len(_EARLY):
        # In early 2023 the values of every axis were a text.
        return XYZArgs.model_validate({**dict(zip(_EARLY, args, strict=True)), "csv_mode": True})
    if len(args) != len(names):
        raise InvalidRequest(
            f"script {title!r} takes {len(names)} arguments, or {len(_EARLY)} in the order of early 2023; "
            f"{len(args)} were given",
            hint="in this order: " + ", ".join(names),
        )
    return XYZArgs.model_validate(dict(zip(names, args, strict=True)))
