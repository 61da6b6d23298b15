"""How a command-line flag is declared: once, as a typed dataclass field with its help and further properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict, TypeVar, Unpack, overload

Kind = Literal["switch", "integer", "number", "text", "texts", "json"]
if TYPE_CHECKING:
    from _typeshed import DataclassInstance

METADATA_KEY = "latentd.flag"
FlagValue: TypeAlias = bool | int | float | str | tuple[str, ...] | dict[str, object] | None
"""What a flag may be set to; which of them, its kind says."""

T = TypeVar("T")
Whole = TypeVar("Whole", bound=int | None)
Number = TypeVar("Number", bound=float | None)
Text = TypeVar("Text", bound=str | None)
Texts = TypeVar("Texts", bound=tuple[str, ...] | None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """The properties of one flag except its name and default.

    :param acts: False if the flag is accepted for compatibility with AUTOMATIC1111 and has no effect.
    :param listed: whether it is part of ``/sdapi/v1/cmd-flags``.
    :param secret: whether its value is never shown.
    :param extra_names: further spellings.
    :param separate: whether a list flag is given once with all values (``--use-cpu vae unet``) rather than once for
        each value.
    :param commas: whether one value may contain several names separated by commas.
    """

    kind: Kind
    help: str
    group: str = ""
    acts: bool = True
    listed: bool = True
    secret: bool = False
    choices: Sequence[str] = ()
    metavar: str | None = None
    extra_names: Sequence[str] = ()
    separate: bool = False
    commas: bool = False


class Facets(TypedDict, total=False):
    """What may be said of a flag beside its kind, default and help: the other fields of :class:`Flag`."""

    group: str
    acts: bool
    listed: bool
    secret: bool
    choices: Sequence[str]
    metavar: str | None
    extra_names: Sequence[str]
    separate: bool
    commas: bool


# As those of dataclasses.field, the results stand for the attribute's value: their type is the default's.


def _field(kind: Kind, default: T, help_text: str, **facets: Unpack[Facets]) -> T:
    return field(default=default, metadata={METADATA_KEY: Flag(kind=kind, help=help_text, **facets)})


@overload
def switch(help_text: str, *, default: bool = ..., **facets: Unpack[Facets]) -> bool: ...
@overload
def switch(help_text: str, *, default: None, **facets: Unpack[Facets]) -> bool | None: ...
def switch(help_text: str, *, default: bool | None = False, **facets: Unpack[Facets]) -> bool | None:
    """A dataclass field for a flag without a value."""
    return _field("switch", default, help_text, **facets)


def integer(default: Whole, help_text: str, **facets: Unpack[Facets]) -> Whole:
    """A dataclass field for a flag that takes a whole number."""
    return _field("integer", default, help_text, **facets)


def number(default: Number, help_text: str, **facets: Unpack[Facets]) -> Number:
    """A dataclass field for a flag that takes a number."""
    return _field("number", default, help_text, **facets)


def text(default: Text, help_text: str, **facets: Unpack[Facets]) -> Text:
    """A dataclass field for a flag that takes a text."""
    return _field("text", default, help_text, **facets)


def texts(default: Texts, help_text: str, **facets: Unpack[Facets]) -> Texts:
    """A dataclass field for a flag that may be given several times; its value is a tuple of texts."""
    return _field("texts", default, help_text, **facets)


def json_object(help_text: str, **facets: Unpack[Facets]) -> dict[str, object]:
    """A dataclass field for a flag that takes a JSON object."""
    return field(default_factory=dict, metadata={METADATA_KEY: Flag(kind="json", help=help_text, **facets)})


def flag_of(declared: Field[FlagValue]) -> Flag:
    """The :class:`Flag` of a settings field."""
    flag: Flag = declared.metadata[METADATA_KEY]
    return flag


def default_of(declared: Field[FlagValue]) -> FlagValue:
    """The default value of a settings field."""
    if declared.default is not MISSING:
        return declared.default
    assert declared.default_factory is not MISSING, "every flag has a default"
    return declared.default_factory()


def declared_flags(cls: type[DataclassInstance]) -> dict[str, tuple[Flag, FlagValue]]:
    """Every flag of a settings class in order of declaration: name to (flag, default)."""
    return {f.name: (flag_of(f), default_of(f)) for f in fields(cls)}
