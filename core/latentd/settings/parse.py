"""From the command line and the environment to :class:`~latentd.settings.settings.Settings`.

The command line takes precedence over ``LATENTD_<FLAG>`` variables, and these over AUTOMATIC1111's
``COMMANDLINE_ARGS``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from latentd.errors import near_matches
from latentd.settings.flag import Flag, FlagValue, declared_flags
from latentd.settings.settings import Settings

PREFIX = "LATENTD_"
INHERITED = "COMMANDLINE_ARGS"
TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off", ""})


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are one line, with flags that are spelt like an unknown one.

    :param also: flags that another parser reads from the same command line; they are suggested as well.
    """

    def __init__(
        self, program: str, *, description: str | None = None, also: Sequence[str] = (), add_help: bool = True
    ) -> None:
        super().__init__(program, description=description, allow_abbrev=False, add_help=add_help)
        self._also = also

    @property
    def spellings(self) -> list[str]:
        """Every long flag."""
        return [name for name in self._option_string_actions if name.startswith("--")]

    def refuse_unknown(self, rest: Sequence[str]) -> None:
        """End the process if ``rest``, the arguments that no parser knows, is not empty.

        :raises SystemExit: status 2; the message names the first of them.
        """
        if not rest:
            return
        flag = rest[0].partition("=")[0]
        if not flag.startswith("-"):
            self.error(f"{flag!r} is one argument too many")
        near = near_matches(flag, [*self.spellings, *self._also])
        self.error(f"there is no flag {flag}" + (f": {near}" if near else ""))

    def error(self, message: str) -> NoReturn:
        """End with status 2 and one line."""
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help lists the flags)\n")


def parse_settings(
    arguments: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    parser: CommandParser | None = None,
) -> Settings:
    """The settings from ``arguments`` (default: none) and ``environment`` (default: that of the process).

    :param parser: from :func:`flags_parser`; its program name stands in messages.
    :raises SystemExit: status 2 with a message of one line: a flag or a variable is wrong.
    """
    environment = os.environ if environment is None else environment
    parser = parser or flags_parser("latentd")
    values: dict[str, Any] = {}  # each of its flag's type
    try:
        inherited = shlex.split(environment.get(INHERITED, ""))
        values |= _flags(parser, inherited)
        values |= read_environment(environment)
    except ValueError as error:
        parser.error(str(error))
    values |= _flags(parser, arguments or ())
    return Settings(**values)


def _flags(parser: CommandParser, arguments: Sequence[str]) -> dict[str, FlagValue]:
    found, rest = parser.parse_known_args(list(arguments))
    parser.refuse_unknown(rest)
    return vars(found)


def flags_parser(program: str, description: str | None = None, *, also: Sequence[str] = ()) -> CommandParser:
    """A parser of every flag of :class:`Settings`.

    :param also: as for :class:`CommandParser`.
    """
    parser = CommandParser(program, description=description, also=also)
    add_flags(parser)
    return parser


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add every flag of :class:`Settings` to ``parser``, in groups. Flags that are not given set no attribute."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, (flag, default) in declared_flags(Settings).items():
        if flag.group not in groups:
            groups[flag.group] = parser.add_argument_group(flag.group)
        spellings = [*flag.extra_names] if len(name) == 1 else [spelling(name), *flag.extra_names]
        groups[flag.group].add_argument(*spellings, dest=name, default=argparse.SUPPRESS, **_keywords(flag, default))


def spelling(name: str) -> str:
    """The command-line spelling of the flag ``name``: ``data_dir`` is ``--data-dir``."""
    return "--" + name.replace("_", "-")


def _keywords(flag: Flag, default: FlagValue) -> dict[str, Any]:  # of every type that add_argument takes
    """The keyword arguments of ``add_argument`` for one flag."""
    help_text = flag.help.replace("%", "%%")
    if flag.kind == "switch":
        return {"help": help_text, "action": "store_const", "const": True}
    keywords: dict[str, Any] = {"help": help_text + _default_note(flag, default), "metavar": flag.metavar}
    if flag.choices:
        keywords |= {"choices": tuple(flag.choices), "metavar": None}
    if flag.kind == "texts":
        return keywords | {"action": _Collect, "nargs": "+" if flag.separate else None, "commas": flag.commas}
    converters = {"integer": int, "number": float, "json": _json_object, "text": str}
    keywords["type"] = converters[flag.kind]
    keywords["metavar"] = keywords["metavar"] or (
        None if flag.choices else {"integer": "N", "number": "X"}.get(flag.kind)
    )
    return keywords


def _default_note(flag: Flag, default: FlagValue) -> str:
    if default in (None, (), {}, "") or isinstance(default, bool):
        return ""
    return f" (default: {default})".replace("%", "%%")


class _Collect(argparse.Action):
    """Collects the values of a flag that may be given several times into a tuple; ``keywords`` are argparse's own."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, *, commas: bool, **keywords: Any
    ) -> None:  # argparse's own
        super().__init__(option_strings, dest, **keywords)
        self.commas = commas

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[str] | None,
        option: str | None = None,
    ) -> None:
        given = [values] if isinstance(values, str) else list(values or ())
        if self.commas:
            given = split_names(",".join(given))
        setattr(namespace, self.dest, (*getattr(namespace, self.dest, ()), *given))


def split_names(text: str) -> list[str]:
    """The names in ``text``, which are separated by commas; empty ones are dropped."""
    return [name for part in text.split(",") if (name := part.strip())]


def read_environment(environment: Mapping[str, str]) -> dict[str, FlagValue]:
    """Values of the flags for which ``LATENTD_<FLAG>`` is set.

    :raises ValueError: a value is not of the flag's type; the message names the variable.
    """
    values: dict[str, FlagValue] = {}
    for name, (flag, _) in declared_flags(Settings).items():
        variable = PREFIX + name.upper()
        if variable in environment:
            try:
                values[name] = _from_text(flag, environment[variable])
                if flag.secret and flag.acts and not environment[variable].strip(" ,"):
                    raise ValueError("it is empty; unset it if nobody is to be asked who they are")
            except ValueError as error:
                raise ValueError(f"environment variable {variable}: {error}") from error
    return values


def _from_text(flag: Flag, text: str) -> FlagValue:
    match flag.kind:
        case "switch":
            return _truth(text)
        case "integer":
            return int(text)
        case "number":
            return float(text)
        case "texts":
            return tuple(split_names(text))
        case "json":
            return _json_object(text)
        case "text":
            if flag.choices and text not in flag.choices:
                raise ValueError(f"{text!r} is not one of {', '.join(flag.choices)}")
            return text


def _truth(text: str) -> bool:
    word = text.strip().lower()
    if word in TRUE or word in FALSE:
        return word in TRUE
    raise ValueError(f"{text!r} is neither true nor false")


def _json_object(text: str) -> dict[str, object]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("a JSON object is wanted")
    return value
