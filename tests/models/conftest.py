from __future__ import annotations

from pathlib import Path

import pytest

from latentd.testing import tiny_models


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one tiny checkpoint of every family."""
    folder = tmp_path_factory.mktemp("Stable-diffusion")
    for family in ("sd1", "inpainting", "edit", "sd2", "sdxl", "sdxl-refiner"):
        tiny_models.write(folder / f"{family}.safetensors", tiny_models.checkpoint(family))
    return folder
