"""Choosing the command. A command's module is imported only when it runs, so that ``latentd --help`` is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from latentd import __version__

# Name to (module with a function `run(arguments) -> exit status`, one line of help).
COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("latentd.cli.serve", "start the server (also when only flags are given)"),
    "generate": ("latentd.cli.generate", "draw a picture from a prompt and write it to a file"),
    "models": ("latentd.cli.models", "list the checkpoints, VAEs and networks that are found"),
    "pull": ("latentd.cli.pull", "fetch a model by name from Hugging Face, Civitai or a URL"),
    "rm": ("latentd.cli.rm", "remove a model"),
    "doctor": ("latentd.cli.doctor", "say what is installed, found and wrong"),
    "plugins": ("latentd.cli.plugins", "list the plugins and what became of them"),
    "new-key": ("latentd.cli.new_key", "make a key for --api-keys-file"),
    "new-plugin": ("latentd.cli.new_plugin", "write the skeleton of a plugin, with a test"),
}
USAGE = """usage: latentd [COMMAND] [FLAGS]

A Stable Diffusion server that speaks AUTOMATIC1111's web API.

commands:
{commands}

  latentd COMMAND --help    the flags of a command
  latentd --version         the version

Without a command the server is started: latentd --port 7861 --data-dir stable-diffusion-webui
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that ``arguments`` (default: those of the process) name; returns its exit status."""
    try:
        status = _main(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader has closed the pipe, as in: latentd plugins | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _main(given: list[str]) -> int:
    first = given[0] if given else ""
    if first in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0
    if first in ("-V", "--version"):
        print(f"latentd {__version__}")
        return 0
    if first in COMMANDS:
        run = import_module(COMMANDS[first][0]).run
        return int(run(given[1:]) or 0)
    if not first or first.startswith("-"):
        return int(import_module(COMMANDS["serve"][0]).run(given) or 0)
    return _plugin_command(first, given[1:])


def usage() -> str:
    """The help text; commands of plugins are listed from their metadata, without importing them."""
    lines = [(name, text) for name, (_, text) in COMMANDS.items()]
    lines += [(point.name, f"from plugin {point.dist.name if point.dist else '?'}") for point in plugin_commands()]
    return USAGE.format(commands="\n".join(f"  {name:<14}{text}" for name, text in lines))


def plugin_commands() -> list[EntryPoint]:
    """Entry points of plugins' commands, sorted, without those named as one of the core's."""
    found = [point for point in entry_points(group="latentd.commands") if point.name not in COMMANDS]
    return sorted(found, key=lambda point: point.name)


def _plugin_command(name: str, rest: list[str]) -> int:
    for point in plugin_commands():
        if point.name == name:
            run: Callable[[list[str]], int | None] = point.load()
            return int(run(rest) or 0)
    from latentd.errors import near_matches

    known = [*COMMANDS, *(point.name for point in plugin_commands())]
    hint = near_matches(name, known) or "see latentd --help"
    print(f"latentd: there is no command {name!r}: {hint}", file=sys.stderr)
    return 2
