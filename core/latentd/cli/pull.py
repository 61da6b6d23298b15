"""``latentd pull NAME``: fetch a model by name into the folder where the server looks for it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from latentd.cli.serve import set_up_logging
from latentd.cli.settings import UNUSABLE, name_first, read_settings
from latentd.settings import Settings
from latentd.settings.parse import CommandParser, flags_parser

FAILED = 1
DESCRIPTION = (
    "Fetch a model: owner/repository[:file] of Hugging Face, civitai:VERSION, or a URL. It is checked against the "
    "hub's SHA-256, and an interrupted download goes on where it stopped. Tokens are taken from HF_TOKEN and "
    "CIVITAI_API_TOKEN. Nothing else in latentd fetches models."
)


def run(arguments: Sequence[str]) -> int:
    """Fetch one model; returns 1 if that fails."""
    mine = _parser()
    name, others = name_first(arguments)
    own, rest = mine.parse_known_args(others)
    settings = read_settings(rest, flags_parser("latentd pull NAME", DESCRIPTION, also=mine.spellings))
    if not name:
        print("latentd pull: give the model's name first; see latentd pull --help", file=sys.stderr)
        return UNUSABLE
    set_up_logging(settings, "ERROR")

    from latentd.errors import LatentdError

    try:
        for line in pull(name, settings, kind=own.kind, revision=own.revision, sha256=own.sha256, force=own.force):
            print(line)
    except LatentdError as error:
        print(f"latentd pull: {error.detail}{f' ({error.hint})' if error.hint else ''}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("latentd pull: stopped; the same command goes on from here", file=sys.stderr)
        return FAILED
    return 0


def _parser() -> CommandParser:
    parser = CommandParser("latentd pull", add_help=False)
    parser.add_argument("--kind", help="folder below models/, as Lora or VAE; by default what the file is")
    parser.add_argument("--revision", help="branch, tag or commit of a Hugging Face repository")
    parser.add_argument("--sha256", help="what the file's SHA-256 must be")
    parser.add_argument("--force", action="store_true", help="replace a file that is there and differs")
    return parser


def pull(
    name: str,
    settings: Settings,
    *,
    kind: str | None = None,
    revision: str | None = None,
    sha256: str | None = None,
    force: bool = False,
) -> list[str]:
    """What was fetched to where, a line each.

    :raises LatentdError: it cannot be found, fetched or placed; what has been fetched is kept for the next try.
    """
    from latentd.cli.pull_download import fetched
    from latentd.cli.pull_place import kind_of, place, waiting_folder
    from latentd.cli.pull_sources import find_source

    source = find_source(name, revision=revision, sha256=sha256)
    folder = waiting_folder(settings.paths.data, source)
    files = [(file, fetched(file, folder / file.name)) for file in source.files]
    chosen = kind or source.kind or kind_of(files[0][1])
    target: Path = settings.paths.models(chosen)[0]
    return place(source, files, target, force=force)
