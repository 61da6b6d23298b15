"""The restorers and their weight files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.api import FaceRestorerSpec, NotConfigured, Services, find_models, install_hint

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.api import WorkerContext

SUFFIXES = (".pth", ".pt", ".safetensors")
_EXTRA = "spandrel_extra_arches"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restorer:
    """A kind of restorer.

    :param folder: kind of its folder, for ``services.paths.models``.
    :param file_name: name of the weights as published.
    :param url: where they are published.
    :param pattern: pattern for the names of other files; of several, the last by name is used.
    :param weighted: whether it has a weight between quality and fidelity.
    :param extra: how to install its architecture if that is in another package, and why it is.
    """

    name: str
    folder: str
    file_name: str
    url: str
    pattern: re.Pattern[str]
    weighted: bool = False
    extra: str | None = None


RESTORERS: tuple[Restorer, ...] = (
    Restorer(
        name="CodeFormer",
        folder="Codeformer",
        file_name="codeformer-v0.1.0.pth",
        url="https://github.com/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth",
        pattern=re.compile(r"codeformer", re.IGNORECASE),
        weighted=True,
        extra=install_hint("facerestore", "codeformer") + "; its licence forbids commercial use",
    ),
    Restorer(
        name="GFPGAN",
        folder="GFPGAN",
        file_name="GFPGANv1.4.pth",
        url="https://github.com/TencentARC/GFPGAN/releases/download/v1.3.0/GFPGANv1.4.pth",
        pattern=re.compile(r"gfpgan", re.IGNORECASE),
    ),
)


def face_restorer(kind: Restorer, services: Services) -> FaceRestorerSpec:
    """The entry for ``kind``. Its weights are looked for at each use, so that a new file needs no restart."""

    def check() -> None:
        find_weights(kind, services)

    def restore(image: Image, weight: float | None, context: WorkerContext) -> Image:
        path = find_weights(kind, services)
        from latentd_facerestore.restoring import restore_faces

        if weight is None:
            weight = float(context.options["code_former_weight"])
        return restore_faces(image, path, context, weight=weight if kind.weighted else None)

    return FaceRestorerSpec(name=kind.name, restore=restore, check=check)


def find_weights(kind: Restorer, services: Services) -> Path:
    """The file to use: that of ``--gfpgan-model``, or the published one, or the last whose name fits the pattern.

    :raises NotConfigured: there is none, or the package of the architecture is missing; the message says what to do.
    """
    if kind.extra is not None and find_spec(_EXTRA) is None:
        raise NotConfigured(f"face restorer {kind.name!r} needs the package spandrel-extra-arches", hint=kind.extra)
    folders = services.paths.models(kind.folder)
    files = [found.path for folder in folders for found in find_models(folder, SUFFIXES)]
    flag = services.settings.gfpgan_model if kind.name == "GFPGAN" else None
    wanted = Path(flag).name if flag else kind.file_name
    for path in files:
        if path.name == wanted:
            return path
    fitting = sorted((path for path in files if kind.pattern.search(path.name)), key=lambda path: path.name)
    if flag or not fitting:
        raise NotConfigured(
            f"face restorer {kind.name!r} has no weights: {wanted} is missing in {folders[0]}",
            hint=f"get it from {kind.url}; nothing is downloaded by itself",
        )
    return fitting[-1]
