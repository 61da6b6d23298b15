"""Writing control maps beside the pictures (option ``control_net_detectmap_autosaving``)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.api import Generation

if TYPE_CHECKING:
    from latentd_controlnet.preprocessors.pixels import Pixels

_UNSAFE = re.compile(r"[^\w+.-]")
_NUMBERED = re.compile(r"(\d+)-")


def save_maps(maps: list[tuple[str, Pixels]], generation: Generation) -> None:
    """Write each (module, map) to ``<samples>/<control_net_detectedmap_dir>/<module>/NNNNN-<module>.png``.

    Nothing is written if that folder is outside the data folder.
    """
    from PIL import Image

    data = generation.services.paths.data.resolve()
    mode = "img2img" if generation.plan.is_img2img else "txt2img"
    samples = data / str(generation.options[f"outdir_{mode}_samples"])
    root = (samples / str(generation.options["control_net_detectedmap_dir"])).resolve()
    if not root.is_relative_to(data):
        return
    for module, pixels in maps:
        if module == "none":
            continue
        name = _UNSAFE.sub("_", module)
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{_next_number(folder):05d}-{name}.png")


def _next_number(folder: Path) -> int:
    used = [int(match[1]) for path in folder.iterdir() if (match := _NUMBERED.match(path.name))]
    return max(used, default=-1) + 1
