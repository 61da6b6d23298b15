"""Finding the weights of preprocessors, and the errors if they are missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from latentd.api import NotConfigured, Services, WorkerContext
from latentd_controlnet.model_files import stamp

T = TypeVar("T")
Foreign: TypeAlias = Any
"""A network or detector of controlnet-aux, transformers or spandrel, whose classes have no types."""

FOLDER = "annotator"
#: The kind of preprocessors' networks in the cache of models.
CACHE = "annotator"
_DEEPEST = 4


def services_of(context: WorkerContext) -> Services:
    """The server's services, which the context of a preprocessor always has."""
    assert context.services is not None
    return context.services


def folders(context: WorkerContext) -> Iterator[Path]:
    """Folders of preprocessors' weights, in the order in which they are searched."""
    paths = services_of(context).paths
    extra = str(context.options.get("control_net_modules_path") or "")
    if extra:
        yield paths.data / Path(extra).expanduser()
    yield from paths.models("annotators")
    for folder in paths.models("ControlNet"):
        yield folder / FOLDER


def find_weights(context: WorkerContext, module: str, *names: str) -> Path:
    """The first file (or folder) of one of ``names`` below those folders.

    :raises NotConfigured: there is none; the message says which file belongs where.
    """
    for root in folders(context):
        for name in names:
            if (found := _find(root, name)) is not None:
                return found
    home = f"models/ControlNet/{FOLDER}"
    raise NotConfigured(
        f"Preprocessor {module} lacks its weights {names[0]}", hint=f"put {names[0]} into {home} of the data folder"
    )


def _find(root: Path, name: str) -> Path | None:
    direct = root / name
    if direct.exists():
        return direct
    for folder, subfolders, files in os.walk(root, followlinks=False):
        if name in files or name in subfolders:
            return Path(folder) / name
        if len(Path(folder).relative_to(root).parts) >= _DEEPEST:
            subfolders.clear()
    return None


def cached(context: WorkerContext, name: str, paths: Sequence[Path], load: Callable[[], T]) -> T:
    """The network ``name`` from the files (or folders) ``paths``, kept in the server's cache of models.

    As many networks stay loaded as control models (option ``control_net_model_cache_size``); a file that was replaced
    is read again.
    """
    cache = services_of(context).models.cache
    cache.limit(CACHE, int(context.options.get("control_net_model_cache_size", 2)))
    return cache.get((CACHE, *(stamp(path) for path in paths), name, context.device), load, network_bytes)


def network_bytes(found: object) -> int:
    """Bytes of the weights of ``found``: a network, several, or an object with networks as attributes."""
    if hasattr(found, "state_dict"):
        return sum(value.numel() * value.element_size() for value in found.state_dict().values())
    parts = found if isinstance(found, tuple) else getattr(found, "__dict__", {}).values()
    return sum(network_bytes(part) for part in parts)
