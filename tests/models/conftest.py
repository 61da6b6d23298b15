from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import ldm_files


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one tiny checkpoint of every family."""
    folder = tmp_path_factory.mktemp("Stable-diffusion")
    for family in ("sd1", "inpainting", "edit", "sd2", "sdxl", "sdxl-refiner"):
        ldm_files.write(folder / f"{family}.safetensors", ldm_files.checkpoint(family))
    return folder
