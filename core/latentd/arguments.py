"""Arguments of scripts: from the lists and objects that clients send to a pydantic model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from latentd.errors import InvalidRequest, near_matches
from latentd.types import JsonValue, RawArgs

Args = TypeVar("Args", bound=BaseModel)
_SHOWN = 20
_SHOWN_LENGTH = 100


class InvalidArguments(InvalidRequest):
    """The arguments of a script do not fit its model.

    :param title: the script's title.
    :param loc: the place of its arguments in the body, with the title.
    :param error: the model's error; ``error.errors()`` has one entry for each argument.
    """

    def __init__(self, title: str, loc: Sequence[str], error: ValidationError) -> None:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        super().__init__(f"script {title!r}, argument {field}: {first['msg']}")
        self.loc = tuple(loc)
        self.error = error


def parse_positional(model: type[Args], args: RawArgs) -> Args:
    """``args`` as ``model``: a list by the order of its fields, an object by their names.

    Missing arguments keep their defaults and further ones are dropped, as AUTOMATIC1111 does it for always-on scripts;
    :func:`beyond` lists the latter.

    :raises pydantic.ValidationError: a value does not fit; its ``loc`` names the field.
    :raises InvalidRequest: ``args`` is neither a list nor an object.
    """
    return model.model_validate(_by_name(model, args))


def parse_exact(model: type[Args], args: RawArgs, *, title: str) -> Args:
    """As :func:`parse_positional` for ``script_args`` of a selectable script: a list must have every argument.

    An empty list, which is the API's default, means the script's defaults.

    :raises InvalidRequest: the list is too short or too long.
    """
    if isinstance(args, Sequence) and not isinstance(args, (str, bytes)) and args:
        names = list(model.model_fields)
        if len(args) != len(names):
            raise InvalidRequest(
                f"script {title!r} takes {len(names)} arguments, {len(args)} were given",
                hint="in this order: " + ", ".join(names) if names else None,
            )
    return parse_positional(model, args)


def _by_name(model: type[BaseModel], args: RawArgs) -> dict[str, JsonValue]:
    if args is None:
        return {}
    if isinstance(args, Mapping):
        return {str(key): value for key, value in args.items()}
    if isinstance(args, (str, bytes)) or not isinstance(args, Sequence):
        raise InvalidRequest(f"script arguments are a list or an object, not {type(args).__name__}")
    keys = [entry.alias or name for name, entry in model.model_fields.items()]
    return dict(zip(keys, args, strict=False))


def beyond(model: type[BaseModel], args: object) -> list[str]:
    """The parts of ``args`` that are no field of ``model``, in a few words each; none for models that allow any key."""
    if not args or isinstance(args, (str, bytes)) or model.model_config.get("extra") == "allow":
        return []
    if not isinstance(args, (Mapping, Sequence)):
        return [f"arguments that are neither a list nor an object ({type(args).__name__})"]
    if isinstance(args, Mapping):
        known = {name for field in model.model_fields for name in _names(model, field)}
        unknown = [str(key)[:_SHOWN_LENGTH] for key in args if key not in known]
        return [_with_near(name, known) for name in unknown[:_SHOWN]]
    return surplus(args, len(model.model_fields))


def _with_near(name: str, known: set[str]) -> str:
    near = near_matches(name, sorted(known))
    return f"argument {name!r}" + (f" ({near})" if near else "")


def _names(model: type[BaseModel], field: str) -> set[str]:
    """The keys that an object may use for the field."""
    alias = model.model_fields[field].validation_alias
    named = {alias} if isinstance(alias, str) else {str(path) for path in getattr(alias, "choices", ())}
    by_name = model.model_config.get("populate_by_name") or model.model_config.get("validate_by_name")
    return named | {field} if by_name or not named else named


def surplus(args: Sequence[JsonValue], taken: int) -> list[str]:
    """The arguments after the first ``taken``, in a few words; empty if there are none."""
    return [f"arguments after the first {taken}" if taken else "arguments"] if len(args) > taken else []
