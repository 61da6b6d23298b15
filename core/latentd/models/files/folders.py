"""Finding model files in folders as AUTOMATIC1111 does. This module imports no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from latentd.regular import is_regular

CHECKPOINT_SUFFIXES = (".ckpt", ".safetensors")
VAE_SUFFIXES = (".ckpt", ".pt", ".safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A model file (or folder of diffusers), and its name relative to the folder that was searched, with ``/``."""

    path: Path
    name: str


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key that puts ``a2`` before ``a10``, regardless of case."""
    parts = re.split(r"(\d+)", text.lower())
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def find_models(
    root: Path, suffixes: Collection[str], *, diffusers: bool = False, hidden: bool = True
) -> list[FoundFile]:
    """Files below ``root`` with one of ``suffixes``, by folder and naturally sorted; none if ``root`` does not exist.

    Links are followed, but each folder is searched once. Files whose name begins with a dot, pipes, sockets and devices
    are left out.

    :param diffusers: also list folders that hold a ``model_index.json``, without looking inside them.
    :param hidden: look into folders whose name begins with a dot (option ``list_hidden_files``).
    """
    found: list[FoundFile] = []
    for folder, files in _walk(root, diffusers, hidden):
        if diffusers and "model_index.json" in files and folder != root:
            found.append(FoundFile(path=folder, name=folder.relative_to(root).as_posix()))
            continue
        for name in files:
            path = folder / name
            if name.lower().endswith(tuple(suffixes)) and is_regular(path):
                found.append(FoundFile(path=path, name=path.relative_to(root).as_posix()))
    return found


def _walk(root: Path, diffusers: bool, hidden: bool) -> Iterator[tuple[Path, list[str]]]:
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if diffusers and "model_index.json" in files:
            folders.clear()
        folders[:] = sorted((name for name in folders if hidden or not name.startswith(".")), key=natural_key)
        yield Path(folder), sorted((name for name in files if not name.startswith(".")), key=natural_key)


def is_vae_name(name: str) -> bool:
    """Whether the name of a file among the checkpoints is that of a VAE (``model.vae.safetensors``)."""
    return any(name.lower().endswith(f".vae{suffix}") for suffix in VAE_SUFFIXES)
