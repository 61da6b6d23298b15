"""Finding upscalers: model files by folder, files of other packages, and known models without a file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.api import ModelLoadError, Services, UpscalerSpec, find_models, read_shapes
from latentd_upscalers.absent import LDSR, absent_upscaler
from latentd_upscalers.families import FAMILIES, PACKAGED, SUFFIXES, Family
from latentd_upscalers.scale import read_scale

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.api import WorkerContext

log = logging.getLogger(__name__)

# Names of the core's own upscalers; files with these names are not listed.
_TAKEN = frozenset({"None", "Lanczos", "Nearest"})


def find_upscalers(services: Services) -> list[UpscalerSpec]:
    """The upscalers in the order of their families. Of two with the same name the first counts; the log says so."""
    found: dict[str, UpscalerSpec] = {}
    for spec in _all(services):
        if spec.name in found or spec.name in _TAKEN:
            log.warning("upscaler %s: %s is left out, the name is taken", spec.name, spec.model_path)
            continue
        found[spec.name] = spec
    return list(found.values())


def _all(services: Services) -> Iterator[UpscalerSpec]:
    for family in FAMILIES:
        yield from _of_family(family, services)
    yield LDSR
    for file in services.registry.checkpoints.values():
        if file.kind == "upscaler":
            yield _present(Path(file.name).stem, file.path, PACKAGED)


def _of_family(family: Family, services: Services) -> Iterator[UpscalerSpec]:
    folders = services.paths.models(family.folder)
    files = [found.path for folder in folders for found in find_models(folder, SUFFIXES)]
    claimed = set()
    for known in family.known:
        path = next((path for path in files if known.answers_to(path.name)), None)
        if path is not None:
            claimed.add(path)
        if family.enabled is not None and known.name not in services.options[family.enabled]:
            continue
        if path is not None:
            yield _present(known.name, path, family, listed_scale=known.scale)
        elif not (files and known.fallback):
            yield absent_upscaler(known, family, folders)
    for path in files:
        if path not in claimed:
            yield _present(path.stem, path, family)


def _present(name: str, path: Path, family: Family, *, listed_scale: float | None = None) -> UpscalerSpec:
    def upscale(image: Image, scale: float, context: WorkerContext) -> Image:
        from latentd_upscalers.running import run_upscaler

        return run_upscaler(path, family, image, context)

    return UpscalerSpec(
        name=name,
        upscale=upscale,
        scale=listed_scale if listed_scale is not None else _scale_of(path) or family.nominal,
        model_name=family.label,
        model_path=str(path),
        family=family.folder,
    )


def _scale_of(path: Path) -> float | None:
    try:
        stamp = path.stat()
    except OSError:
        return None
    return _read_scale(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=1024)
def _read_scale(path: Path, mtime_ns: int, size: int) -> float | None:
    try:
        scale = read_scale(read_shapes(path))
    except ModelLoadError:  # what is wrong is said when the file is used
        return None
    return None if scale is None else float(scale)
