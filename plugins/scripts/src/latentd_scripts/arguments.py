"""How the scripts declare their arguments: a pydantic field that knows its control in AUTOMATIC1111's form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from latentd.api import ArgInfo, Script

Number = bool | int | float
"""A number as it was sent: 1 and 1.0 are written differently into the infotext."""

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

    The slider's range is a recommendation, as in AUTOMATIC1111; what is enforced is in ``bounds`` (``ge``, ``le``...).
    """
    row = {"minimum": minimum, "maximum": maximum, "step": step, "choices": list(choices) if choices else None}
    return Field(default, title=label, json_schema_extra={"control": row}, **bounds)


class FormScript(Script):
    """A script whose rows in ``/script-info`` are the controls of its fields.

    ``note`` is the text of the remark in the form, where the first argument is one.
    """

    note: str | None = None

    def arg_info(self, mode: str) -> Sequence[ArgInfo]:
        return [self._row(entry) for entry in self.Args.model_fields.values()]

    def _row(self, entry: Any) -> ArgInfo:
        extra = entry.json_schema_extra or {}
        if "note" in extra:
            return ArgInfo(label="", value=self.note)
        return ArgInfo(label=entry.title, value=entry.get_default(call_default_factory=True), **extra["control"])


class Arguments(BaseModel):
    """Base of the scripts' arguments."""
