"""Previews and metadata of networks and checkpoints, which clients show as cards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi.responses import FileResponse

from latentd.errors import NotFound
from latentd.networks.files import read_metadata
from latentd.regular import is_regular
from latentd.server.openapi import binary
from latentd.server.routing import APIRouter
from latentd.server.schemas.lists import ExtraNetworkMetadata
from latentd.types import JsonValue

if TYPE_CHECKING:
    from latentd.server.services import AppServices
    from latentd.services import Paths

KINDS = ("Lora", "LyCORIS", "Stable-diffusion", "embeddings", "hypernetworks")
"""Kinds of models whose folders may hold previews."""
PREVIEW_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
_MEDIA = ("image/gif", "image/jpeg", "image/png", "image/webp")
MODEL_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".bin")
_WITHOUT_COVERS = "ssmd_cover_images"


def router(services: AppServices) -> APIRouter:
    """Routes ``/sd_extra_networks/thumb`` and ``/metadata``."""
    routes = APIRouter(prefix="/sd_extra_networks", tags=["models"])

    @routes.get(
        "/thumb",
        name="fetch_file",
        response_class=FileResponse,
        responses={200: {"content": binary(*_MEDIA), "description": "A picture file."}},
    )
    async def thumb(filename: str = "") -> FileResponse:
        """The picture ``filename``, or that of a model's file: ``name.png`` or ``name.preview.png`` beside it."""
        path = await services.run_in_thread(lambda: find_preview(services.paths, filename))
        return FileResponse(path)

    @routes.get("/metadata", name="get_metadata", response_model=ExtraNetworkMetadata, response_model_exclude_none=True)
    async def metadata(page: str = "", item: str = "") -> dict[str, str]:
        """What a file's header says, as a JSON text; nothing for files without, and for unknown names.

        ``page`` is ``lora`` or ``checkpoints``, ``item`` a file's name without its ending.
        """
        found = await services.run_in_thread(lambda: _metadata(services, page, item))
        if found is None:
            return {}
        shown = {key: value for key, value in found.items() if key != _WITHOUT_COVERS}
        return {"metadata": json.dumps(shown, indent=4, ensure_ascii=False)}

    return routes


def find_preview(paths: Paths, filename: str) -> Path:
    """The picture that ``filename`` names: itself, or the preview of the model file of that name.

    :raises NotFound: there is none, or it lies outside the folders of models. The answer is the same for both, so
        that nobody learns what else is on the disk.
    """
    path = _resolved(paths, filename)
    folders = [folder for kind in KINDS for folder in paths.models(kind)]
    if path is not None and any(folder in path.parents for folder in folders):
        candidates = _previews(path) if path.suffix.lower() in MODEL_SUFFIXES else [path]
        for candidate in candidates:
            if candidate.suffix.lower() in PREVIEW_SUFFIXES and is_regular(candidate):
                return candidate
    raise NotFound(
        "File not found", hint="previews are pictures in the folders of checkpoints, networks and embeddings"
    )


def _resolved(paths: Paths, filename: str) -> Path | None:
    """``filename`` without ``..``, so that what is compared with the folders is what is opened; None for no path."""
    try:
        return paths.resolve(filename)
    except (RuntimeError, ValueError):  # "~nobody", null bytes
        return None


def _previews(model: Path) -> list[Path]:
    stem = model.with_suffix("")
    return [Path(f"{stem}{part}{suffix}") for suffix in PREVIEW_SUFFIXES for part in ("", ".preview")]


def _metadata(services: AppServices, page: str, item: str) -> Mapping[str, JsonValue] | None:
    """The metadata of the file ``item`` of ``page``; None where there is no such file, or it has none."""
    if page == "lora":
        return next((net.metadata for net in services.networks.list() if net.name == item and net.metadata), None)
    if page == "checkpoints":
        files = [Path(info.filename) for info in services.models.checkpoints if info.stem == item]
        return next(filter(None, map(read_metadata, files)), None)
    return None
