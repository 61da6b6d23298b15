"""How the scripts declare their arguments: pydantic fields with a control of AUTOMATIC1111's form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from latentd.api import ArgInfo, JsonValue, Mode, Script

A = TypeVar("A")

Number = bool | int | float
"""A number of the type that was sent, because 1 and 1.0 differ in the infotext."""

_NOTE = "place of a remark in AUTOMATIC1111's form; not read"
# A field is of its argument's type to the class that has it, and a FieldInfo to pydantic: so are pydantic's own.
UNUSED: Any = Field(None, title="", json_schema_extra={"note": _NOTE})


def control(
    default: JsonValue,
    label: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    step: float | None = None,
    choices: Sequence[str] | None = None,
    **bounds: float,
) -> Any:  # as UNUSED
    """A field with the control that ``/script-info`` shows for it.

    As in AUTOMATIC1111, the slider's range is a recommendation; ``bounds`` (``ge``, ``le``...) are enforced.
    """
    options: list[JsonValue] | None = list(choices) if choices else None
    row: dict[str, JsonValue] = {"minimum": minimum, "maximum": maximum, "step": step, "choices": options}
    checks: dict[str, Any] = dict(bounds)  # keywords of types that differ
    return Field(default, title=label, json_schema_extra={"control": row}, **checks)


class FormScript(Script[A]):
    """A script whose rows in ``/script-info`` are the controls of its fields.

    ``note`` is the remark in AUTOMATIC1111's form, if that is the first argument.
    """

    note: str | None = None

    def arg_info(self, mode: Mode) -> Sequence[ArgInfo]:
        """A row for each field, from its control."""
        return [self._row(entry) for entry in self.Args.model_fields.values()]

    def _row(self, entry: FieldInfo) -> ArgInfo:
        extra: JsonValue = entry.json_schema_extra or {}
        if "note" in extra:
            return ArgInfo(label="", value=self.note)
        default: JsonValue = entry.get_default(call_default_factory=True)
        return ArgInfo(label=entry.title or "", value=default, **extra["control"])


class Arguments(BaseModel):
    """Base of the scripts' arguments."""
