"""A script's row of ``/script-info``, from its pydantic model."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from latentd.contributions import ArgInfo
from latentd.types import JsonValue, Mode

if TYPE_CHECKING:
    from latentd.generations import AnyScript


def script_info(script: AnyScript, mode: Mode) -> dict[str, JsonValue]:
    """The row of a script in ``/sdapi/v1/script-info`` for ``mode``."""
    rows = script.arg_info(mode)
    if rows is None:
        rows = arg_rows(script.Args)
    return {
        "name": script.title.lower(),
        "is_alwayson": script.alwayson,
        "is_img2img": mode == "img2img",
        "args": [_row(row) for row in rows],
    }


def _row(info: ArgInfo) -> dict[str, JsonValue]:
    return {
        "label": info.label,
        "value": info.value,
        "minimum": info.minimum,
        "maximum": info.maximum,
        "step": info.step,
        "choices": list(info.choices) if info.choices is not None else None,
    }


def arg_rows(model: type[BaseModel]) -> list[ArgInfo]:
    """A row for each field of ``model``, in order.

    Label: the field's title, else its name in words. Limits: ``ge`` and ``le``. Step: ``multiple_of``. Choices: those
    of a ``Literal``. ``minimum``, ``maximum``, ``step`` and ``choices`` in ``json_schema_extra`` go before these.
    """
    return [_arg_row(name, entry) for name, entry in model.model_fields.items()]


def _arg_row(name: str, entry: FieldInfo) -> ArgInfo:
    extra = entry.json_schema_extra if isinstance(entry.json_schema_extra, dict) else {}
    choices = extra.get("choices", _literals(entry.annotation))
    return ArgInfo(
        label=entry.title or name.replace("_", " ").capitalize(),
        value=None if entry.default is PydanticUndefined else entry.get_default(call_default_factory=False),
        minimum=typing.cast("float | None", extra.get("minimum", _bound(entry, "ge", "gt"))),
        maximum=typing.cast("float | None", extra.get("maximum", _bound(entry, "le", "lt"))),
        step=typing.cast("float | None", extra.get("step", _bound(entry, "multiple_of"))),
        choices=typing.cast("Sequence[str] | None", choices),
    )


def _bound(entry: FieldInfo, *names: str) -> float | None:
    for constraint in entry.metadata:
        for name in names:
            value = getattr(constraint, name, None)
            if isinstance(value, (int, float)):
                return value
    return None


def _literals(annotation: object) -> list[str] | None:
    origin = typing.get_origin(annotation)
    if origin in (Union, UnionType):
        inner = [part for part in typing.get_args(annotation) if part is not NoneType]
        return _literals(inner[0]) if len(inner) == 1 else None
    if origin is Literal:
        return [str(choice) for choice in typing.get_args(annotation)]
    return None
