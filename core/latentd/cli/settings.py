"""Reading and checking the settings of a command."""

from __future__ import annotations

from collections.abc import Sequence

from latentd.settings import Settings, parse_settings
from latentd.settings.checks import check_settings
from latentd.settings.parse import CommandParser

UNUSABLE = 2
"""Exit status of a command whose flags are wrong."""


def read_settings(arguments: Sequence[str], parser: CommandParser) -> Settings:
    """The settings that ``arguments`` and the environment ask for.

    :raises SystemExit: status 2 after one sentence: a flag is wrong, or names a file or plugin that does not exist.
    """
    settings = parse_settings(arguments, parser=parser)
    try:
        check_settings(settings)
        _check_plugins(settings)
    except ValueError as error:
        parser.exit(UNUSABLE, f"{parser.prog}: {error}\n")
    return settings


def name_first(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The name with which ``arguments`` begin, "" where they begin with a flag, and what follows it.

    Only the first can be a name: after a flag that another parser knows, a name and the flag's value look alike.
    """
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], list(arguments[1:])
    return "", list(arguments)


def _check_plugins(settings: Settings) -> None:
    if not settings.plugins and not settings.disable_plugin:
        return
    from latentd.plugins.selection import Selection

    Selection.from_settings(settings).check_names()
