"""Field types that read JSON as pydantic v1 did, which is what clients of AUTOMATIC1111 rely on (rules: a1111-json)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ModelWrapValidatorHandler,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from latentd.types import JsonValue

_TRUE = frozenset({"1", "on", "t", "true", "y", "yes"})
_FALSE = frozenset({"0", "off", "f", "false", "n", "no"})
LARGEST_INTEGER = 2**63 - 1
LARGEST_SEED = 2**64 - 1
"""The largest seed: torch takes signed and unsigned seeds of 64 bits."""
UNKNOWN_KEPT = 20
UNKNOWN_LENGTH = 60


def _refuse(kind: str, message: str, **context: object) -> PydanticCustomError:
    return PydanticCustomError(kind, message, context)


def _refuse_over(limit: int) -> PydanticCustomError:
    words = f"ensure this value is less than or equal to {limit}"
    return _refuse("value_error.number.not_le", words, limit_value=limit)


def _refuse_under(limit: int) -> PydanticCustomError:
    words = f"ensure this value is greater than or equal to {limit}"
    return _refuse("value_error.number.not_ge", words, limit_value=limit)


def _not_none(value: object) -> None:
    if value is None:
        raise _refuse("type_error.none.not_allowed", "none is not an allowed value")


def to_int(value: JsonValue) -> int:
    """``value`` as an integer: fractions are cut off, texts parsed.

    :raises PydanticCustomError: it is no number, or does not fit 64 bits.
    """
    return _bounded(value, LARGEST_INTEGER)


def to_seed(value: JsonValue) -> int:
    """``value`` as a seed: an integer as :func:`to_int` makes it, up to 2**64 - 1.

    :raises PydanticCustomError: it is no number, or out of bounds.
    """
    return _bounded(value, LARGEST_SEED)


def _bounded(value: JsonValue, largest: int) -> int:
    _not_none(value)
    try:
        number = int(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        number = None
    if number is None:
        raise _refuse("type_error.integer", "value is not a valid integer")
    if number > largest:
        raise _refuse_over(largest)
    if number < -LARGEST_INTEGER:
        raise _refuse_under(-LARGEST_INTEGER)
    return number


def to_float(value: JsonValue) -> float:
    """``value`` as a float.

    :raises PydanticCustomError: it is no number, or not finite.
    """
    _not_none(value)
    try:
        number = float(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        number = None
    if number is None:
        raise _refuse("type_error.float", "value is not a valid float")
    if not math.isfinite(number):
        raise _refuse("value_error.number.not_finite_number", "ensure this value is a finite number")
    return number


def to_str(value: JsonValue) -> str:
    """``value`` as text; numbers are written out.

    :raises PydanticCustomError: it is a list, an object or null.
    """
    _not_none(value)
    if isinstance(value, str):
        if value.isascii():  # Python stores this fact, so that long pictures are not searched
            return value
        # An unpaired surrogate is no character: no tokenizer, file or PNG chunk can hold it.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise _refuse("type_error.str", "str type expected")


def to_bool(value: JsonValue) -> bool:
    """``value`` as a truth value: also 0, 1 and the words yes, no, on, off...

    :raises PydanticCustomError: it is anything else.
    """
    _not_none(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float | str):
        word = value.lower() if isinstance(value, str) else f"{value:g}"
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
    raise _refuse("type_error.bool", "value could not be parsed to a boolean")


def to_dict(value: JsonValue) -> dict[str, JsonValue]:
    """``value`` as a mapping with text keys; a list of pairs, also an empty one, becomes a mapping.

    :raises PydanticCustomError: it is neither.
    """
    _not_none(value)
    try:
        return {str(key): entry for key, entry in dict(value).items()}
    except (TypeError, ValueError):
        raise _refuse("type_error.dict", "value is not a valid dict") from None


def to_arguments(value: JsonValue) -> list[JsonValue] | dict[str, JsonValue]:
    """A script's arguments: a list by position, or an object by name.

    :raises PydanticCustomError: neither.
    """
    _not_none(value)
    if isinstance(value, list | dict):
        return value
    raise _refuse("type_error.list", "value is not a valid list")


def _lenient(
    convert: Callable[[JsonValue], object], schema: Mapping[str, JsonValue]
) -> tuple[BeforeValidator, WithJsonSchema]:
    # The converters return the final type, so pydantic's own checks accept it.
    return (BeforeValidator(convert), WithJsonSchema(dict(schema)))


_INT = _lenient(to_int, {"type": "integer"})
_SEED = _lenient(to_seed, {"type": "integer"})
_FLOAT = _lenient(to_float, {"type": "number"})
_STR = _lenient(to_str, {"type": "string"})
_BOOL = _lenient(to_bool, {"type": "boolean"})
_DICT = _lenient(to_dict, {"type": "object", "additionalProperties": True})
_ARGS = _lenient(
    to_arguments, {"anyOf": [{"type": "array", "items": {}}, {"type": "object", "additionalProperties": True}]}
)

Int = Annotated[int, *_INT]
Seed = Annotated[int, *_SEED]
Float = Annotated[float, *_FLOAT]
Str = Annotated[str, *_STR]
Bool = Annotated[bool, *_BOOL]
Dict = Annotated[dict[str, JsonValue], *_DICT]
Arguments = Annotated[JsonValue, *_ARGS]


class LenientModel(BaseModel):
    """Base of request bodies: unknown keys are ignored but remembered; a list of pairs is read as an object."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    _unknown: tuple[str, ...] = PrivateAttr(())

    @property
    def unknown_fields(self) -> tuple[str, ...]:
        """Keys of the body that name no field, at most :data:`UNKNOWN_KEPT` of them, cut to a readable length."""
        return self._unknown

    @property
    def unknown_warnings(self) -> list[str]:
        """What an answer says of each key of :attr:`unknown_fields`."""
        return [f"field {name!r} is not known and has no effect" for name in self._unknown]

    @model_validator(mode="wrap")
    @classmethod
    def _from_pairs(cls, value: JsonValue, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(value, list):
            try:
                value = dict(value)
            except (TypeError, ValueError):
                raise _refuse("type_error.dict", "value is not a valid dict") from None
        model = handler(value)
        if isinstance(value, dict):
            known = {name for key, field in cls.model_fields.items() for name in (key, field.alias)}
            unknown = (str(key)[:UNKNOWN_LENGTH] for key in value if key not in known)
            model._unknown = tuple(islice(unknown, UNKNOWN_KEPT))
        return model
