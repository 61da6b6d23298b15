"""Control models on disk: their folders, their names in lists, and which one a request means."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

from latentd.api import NotFound, Services, is_regular, near_matches, open_regular

SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors", ".bin")
NONE = "None"
#: Folders below the control models' folder that hold preprocessors' weights, not control models.
ANNOTATORS = "annotator"
_HASH_START, _HASH_LENGTH = 0x100000, 0x10000


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlFile:
    """One control model. ``name`` is its stem, ``title`` what ``/controlnet/model_list`` shows."""

    path: Path
    name: str
    title: str


def folders(services: Services) -> list[Path]:
    """The folders of control models, in order of precedence."""
    found = list(services.paths.models("ControlNet"))
    extra = str(services.options["control_net_models_path"] or "")
    if extra:
        found.append(services.paths.data / Path(extra).expanduser())
    return found


def list_models(services: Services) -> list[ControlFile]:
    """The control models in the folders, or else those in packages, sorted by name regardless of case."""
    own = _named(chain.from_iterable(map(_files, folders(services))))
    return own or _carried(services)


def _carried(services: Services) -> list[ControlFile]:
    return _named(file.path for file in services.registry.checkpoints.values() if file.kind == "controlnet")


def _named(paths: Iterable[Path]) -> list[ControlFile]:
    found: dict[str, ControlFile] = {}
    for path in paths:
        if path.stem != NONE:
            title = f"{path.stem} [{_hash_of(path)}]"
            found.setdefault(title, ControlFile(path=path, name=path.stem, title=title))
    return sorted(found.values(), key=lambda file: file.name.lower())


def find_model(services: Services, wanted: str) -> ControlFile:
    """The model that ``wanted`` names: by its title, its stem, or else as part of the shortest stem.

    If no title fits, a hash in brackets is ignored.

    :raises NotFound: there is none (with status 422, because a value of the request is wrong).
    """
    models = list_models(services)
    found = _best(models, wanted) or _best(_carried(services), wanted)
    if found is not None:
        return found
    hint = near_matches(wanted, [file.name for file in models])
    if not models:
        hint = "no control model was found; put one into models/ControlNet"
    raise NotFound(f"ControlNet model not found: {wanted}", hint=hint, status=422)


def found_here(file: ControlFile, services: Services) -> ControlFile:
    """``file``, which was found by the server, in the folders of this machine.

    :raises NotFound: it is not there.
    """
    return file if is_regular(file.path) else find_model(services, file.title)


def _best(models: Sequence[ControlFile], wanted: str) -> ControlFile | None:
    for file in models:
        if file.title == wanted:
            return file
    for text in dict.fromkeys((wanted, wanted.partition(" [")[0])):
        name = text.strip().lower()
        if not name:
            continue
        exact = [file for file in models if file.name.lower() == name]
        partial = sorted((file for file in models if name in file.name.lower()), key=lambda file: len(file.name))
        if exact or partial:
            return (exact or partial)[0]
    return None


def is_none(name: str) -> bool:
    """Whether a unit names no model."""
    return name.strip().lower() in ("", "none")


def _files(root: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root, followlinks=False):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and name != ANNOTATORS)
        for name in sorted(names):
            path = Path(folder) / name
            if name.lower().endswith(SUFFIXES) and not name.startswith(".") and is_regular(path):
                yield path


def _hash_of(path: Path) -> str:
    try:
        stat = path.stat()
        return _legacy_hash(str(path), stat.st_size, stat.st_mtime_ns)
    except OSError:
        return "00000000"


@lru_cache(maxsize=1024)
def _legacy_hash(path: str, _size: int, _mtime: int) -> str:
    """AUTOMATIC1111's old model hash: 8 digits of the SHA-256 of 64 KiB from 1 MiB on."""
    with open_regular(Path(path)) as file:
        file.seek(_HASH_START)
        return hashlib.sha256(file.read(_HASH_LENGTH)).hexdigest()[:8]


def stamp(path: Path) -> tuple[str, int, int]:
    """A value that changes when the file changes; part of cache keys."""
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns
