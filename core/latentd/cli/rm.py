"""``latentd rm NAME``: remove a model from the folders in which the server looks."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.cli.serve import set_up_logging
from latentd.cli.settings import UNUSABLE, name_first, read_settings
from latentd.settings.parse import CommandParser, flags_parser

if TYPE_CHECKING:
    from latentd.server.services import AppServices

FAILED = 1
DESCRIPTION = (
    "Remove a checkpoint, VAE, LoRA, embedding or hypernetwork by a name of latentd models, with its preview, "
    "description and .yaml beside it. It asks before, unless --yes is given."
)
#: What lies beside a model under its name, after its stem.
_BESIDE = (".yaml", ".json", ".txt", ".png", ".jpg", ".jpeg", ".webp", ".preview.png", ".preview.jpg", ".civitai.info")


@dataclass(frozen=True, slots=True)
class Found:
    """A file or folder of a model, and its kind."""

    kind: str
    path: Path


def run(arguments: Sequence[str]) -> int:
    """Remove one model; returns 1 if there is none of that name, or several, or it is kept."""
    mine = _parser()
    name, others = name_first(arguments)
    own, rest = mine.parse_known_args(others)
    settings = read_settings(rest, flags_parser("latentd rm NAME", DESCRIPTION, also=mine.spellings))
    if not name:
        print("latentd rm: give the model's name first; see latentd models", file=sys.stderr)
        return UNUSABLE
    set_up_logging(settings, "ERROR")

    from latentd.errors import near_matches
    from latentd.server.services import create_services

    services = create_services(settings, serve_http=False)
    every = [(names, found) for names, found in _models(services) if own.kind in (None, found.kind)]
    matching = {found.path: found for names, found in every if name in names}
    if len(matching) != 1:
        kinds = ", ".join(f"{found.kind} {path}" for path, found in matching.items())
        hint = near_matches(name, [known for names, _ in every for known in names]) or "see latentd models"
        problem = f"means several, give --kind: {kinds}" if matching else f"is no model: {hint}"
        print(f"latentd rm: {name!r} {problem}", file=sys.stderr)
        return FAILED
    [found] = matching.values()
    folders = services.paths.models(found.kind)
    if not any(found.path.is_relative_to(folder) for folder in folders):
        print(f"latentd rm: {found.path} is not in {folders[0]}, and stays", file=sys.stderr)
        return FAILED
    return _removed([found.path, *_beside(found.path)], asked=not own.yes)


def _parser() -> CommandParser:
    parser = CommandParser("latentd rm", add_help=False)
    parser.add_argument("--kind", help="folder below models/, where a name means several")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _models(services: AppServices) -> Iterator[tuple[set[str], Found]]:
    """Every model with the names that mean it."""
    for checkpoint in services.models.checkpoints:
        names = {checkpoint.title, checkpoint.name, checkpoint.model_name}
        yield names, Found("Stable-diffusion", Path(checkpoint.filename))
    for vae in services.models.vaes:
        yield {vae.name, Path(vae.filename).stem}, Found("VAE", Path(vae.filename))
    for network in services.networks.list():
        yield {network.name, network.path.name}, Found("Lora", network.path)
    for name, embedding in services.embeddings.all().items():
        yield {name, Path(embedding.filename).name}, Found("embeddings", Path(embedding.filename))
    for name, path in services.hypernetworks.items():
        yield {name, path.name}, Found("hypernetworks", path)


def _beside(path: Path) -> list[Path]:
    """What belongs to a file: nothing of a folder's, nor of a file that shares its stem with another model."""
    if path.is_dir():
        return []
    others = {entry.suffix for entry in path.parent.glob(f"{_escaped(path.stem)}.*")} - {path.suffix, *_BESIDE, ".info"}
    return [] if others else [found for end in _BESIDE if (found := path.with_name(path.stem + end)).exists()]


def _escaped(text: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)


def _removed(paths: Sequence[Path], *, asked: bool) -> int:
    for path in paths:
        print(path)
    if asked:
        if not sys.stdin.isatty():
            print("latentd rm: nothing is removed without an answer; give --yes", file=sys.stderr)
            return FAILED
        if input("remove? [y/N] ").strip().lower() not in ("y", "yes"):
            print("kept")
            return FAILED
    for path in paths:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        else:
            shutil.rmtree(path)
    print("removed")
    return 0
