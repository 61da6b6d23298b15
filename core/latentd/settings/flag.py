"""How a command-line flag is declared: once, as a typed dataclass field with its help and further properties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal

Kind = Literal["switch", "integer", "number", "text", "texts", "json"]
METADATA_KEY = "latentd.flag"


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


def _field(kind: Kind, default: Any, help_text: str, **keywords: Any) -> Any:
    metadata = {METADATA_KEY: Flag(kind=kind, help=help_text, **keywords)}
    if isinstance(default, (list, dict)):
        factory: Callable[[], Any] = default.copy
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def switch(help_text: str, *, default: bool | None = False, **keywords: Any) -> Any:
    """A dataclass field for a flag without a value."""
    return _field("switch", default, help_text, **keywords)


def integer(default: int | None, help_text: str, **keywords: Any) -> Any:
    """A dataclass field for a flag that takes a whole number."""
    return _field("integer", default, help_text, **keywords)


def number(default: float | None, help_text: str, **keywords: Any) -> Any:
    """A dataclass field for a flag that takes a number."""
    return _field("number", default, help_text, **keywords)


def text(default: str | None, help_text: str, **keywords: Any) -> Any:
    """A dataclass field for a flag that takes a text."""
    return _field("text", default, help_text, **keywords)


def texts(default: tuple[str, ...] | None, help_text: str, **keywords: Any) -> Any:
    """A dataclass field for a flag that may be given several times; its value is a tuple of texts."""
    return _field("texts", default, help_text, **keywords)


def json_object(help_text: str, **keywords: Any) -> Any:
    """A dataclass field for a flag that takes a JSON object."""
    return _field("json", {}, help_text, **keywords)


def flag_of(declared: Field[Any]) -> Flag:
    """The :class:`Flag` of a settings field."""
    flag: Flag = declared.metadata[METADATA_KEY]
    return flag


def default_of(declared: Field[Any]) -> Any:
    """The default value of a settings field."""
    if callable(declared.default_factory):
        return declared.default_factory()
    return declared.default


def declared_flags(cls: type[Any]) -> dict[str, tuple[Flag, Any]]:
    """Every flag of a settings class in order of declaration: name to (flag, default)."""
    return {f.name: (flag_of(f), default_of(f)) for f in fields(cls)}
