"""How the scripts declare their arguments: pydantic fields with a control of AUTOMATIC1111's form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from latentd.api import ArgInfo, Script

Number = bool | int | float
"""A number of the type that was sent, because 1 and 1.0 differ in the infotext."""

UNUSED: Any = Field(None, title="", json_schema_extra={"note": "place of a remark in AUTOMATIC1111's form; not read"})


def control(
    default: Any,
    label: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    step: float | None = None,
    choices: Sequence[str] | None = None,
    **bounds: Any,
) -> Any:
    """A field with the control that ``/script-info`` shows for it.

    As in AUTOMATIC1111, the slider's range is a recommendation; ``bounds`` (``ge``, ``le``...) are enforced.
    """
    row = {"minimum": minimum, "maximum": maximum, "step": step, "choices": list(choices) if choices else None}
    return Field(default, title=label, json_schema_extra={"control": row}, **bounds)


class FormScript(Script):
    """A script whose rows in ``/script-info`` are the controls of its fields.

    ``note`` is the remark in AUTOMATIC1111's form, if that is the first argument.
    """

    note: str | None = None

    def arg_info(self, mode: str) -> Sequence[ArgInfo]:
        """A row for each field, from its control."""
        return [self._row(entry) for entry in self.Args.model_fields.values()]

    def _row(self, entry: Any) -> ArgInfo:
        extra = entry.json_schema_extra or {}
        if "note" in extra:
            return ArgInfo(label="", value=self.note)
        return ArgInfo(label=entry.title, value=entry.get_default(call_default_factory=True), **extra["control"])


class Arguments(BaseModel):
    """Base of the scripts' arguments."""
