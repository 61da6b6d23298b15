"""Checkpoints as models: their ids, which one a request means, and the size that it draws best."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from latentd.api import Checkpoint, LatentdError, Models, Services, near_matches, read_shapes
from latentd_openai.errors import refusal
from latentd_openai.parameters import ModelEntry

#: Names of OpenAI's own models; some clients offer no other names.
_OPENAI = re.compile(r"(dall-e|gpt-image|chatgpt-image)", re.IGNORECASE)
_SDXL_KEY = "conditioner.embedders.1.model.ln_final.weight"
_SD2_KEY = "cond_stage_model.model.ln_final.weight"


def entry_of(checkpoint: Checkpoint) -> ModelEntry:
    """The checkpoint's row in ``/v1/models``."""
    path = Path(checkpoint.filename)
    return ModelEntry(id=checkpoint.model_name, created=int(path.stat().st_mtime) if path.exists() else 0)


def chosen(services: Services, model: str | None) -> tuple[Checkpoint, list[str]]:
    """The checkpoint that a request means, and what to warn of.

    :raises HTTPException: 404, there is none of that name.
    """
    models: Models = services.models
    if not model:
        return models.current, []
    if (found := models.named(model)) is not None:
        return found, []
    if _OPENAI.match(model):
        current = models.current
        return current, [f"model: {model!r} is OpenAI's; drawn with the selected checkpoint {current.model_name!r}"]
    hint = near_matches(model, [checkpoint.model_name for checkpoint in models.checkpoints])
    message = f"The model '{model[:200]}' does not exist" + (f": {hint}" if hint else ".")
    raise refusal(message, param="model", code="model_not_found", status=404)


def native_side(checkpoint: Checkpoint) -> int:
    """The side in pixels of the square pictures that the checkpoint was trained on: 512, 768 (SD 2) or 1024 (SDXL)."""
    path = Path(checkpoint.filename)
    if path.is_dir():
        return 1024 if (path / "text_encoder_2").is_dir() else 512
    try:
        return _side_of(path, path.stat().st_mtime_ns)
    except (LatentdError, OSError):  # the job itself says what is wrong with the file
        return 512


@lru_cache(maxsize=256)
def _side_of(path: Path, stamp: int) -> int:
    shapes = read_shapes(path)
    if _SDXL_KEY in shapes:
        return 1024
    return 768 if _SD2_KEY in shapes else 512
