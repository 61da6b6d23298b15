"""Checking that a control model fits the checkpoint of a plan, from the files' headers and before anything loads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from latentd.api import LatentdError, Plan, Services
from latentd_controlnet.model_files import ControlFile, stamp
from latentd_controlnet.unit import Unit

#: Width of the text conditioning → the usual name of such models.
FAMILIES = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}
_CROSS = "attn2.to_k.weight"


def check_base(unit: Unit, file: ControlFile, plan: Plan, services: Services) -> None:
    """Refuse a control model whose text conditioning has another width than the checkpoint's.

    Files whose header takes long to read (pickles, folders of diffusers) are checked when they are loaded.

    :raises InvalidRequest: the model is for another family of checkpoints.
    """
    info = services.models.find(plan.checkpoint)
    wanted, given = _width(file.path), None if info is None else _width(Path(info.filename))
    if wanted is None or given is None or wanted == given:
        return
    raise unit.error(
        f"ControlNet model {file.name} is for {family(wanted)} and not compatible with the checkpoint, {family(given)}",
        hint="choose a control model or a checkpoint of the same family",
    )


def family(width: int) -> str:
    """The name of the family whose text conditioning has this width."""
    return FAMILIES.get(width, f"a base with text conditioning of width {width}")


def _width(path: Path) -> int | None:
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        return None
    return _width_of(stamp(path))


@lru_cache(maxsize=256)
def _width_of(key: tuple[str, int, int]) -> int | None:
    from latentd.api import read_weights

    try:
        shapes: Mapping[str, tuple[int, ...]] = read_weights(Path(key[0])).shapes
    except LatentdError:
        return None
    for name, shape in shapes.items():
        if name.endswith(_CROSS) and len(shape) == 2 and "text" not in name and "adapter" not in name:
            return shape[1]
    return None
