from __future__ import annotations

import pytest

from latentd.models.devices import DevicePolicy
from latentd.models.files.checkpoints import CheckpointInfo
from latentd.models.loaded import LoadedModel
from latentd.models.loading.load import load_checkpoint
from latentd.testing import tiny_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    """One tiny model of each family."""
    folder = tmp_path_factory.mktemp("models")
    loaded = {}
    for family in ("sd1", "sd2", "sdxl", "sdxl-refiner"):
        path = tiny_models.write(folder / f"{family}.safetensors", tiny_models.checkpoint(family))
        loaded[family] = load_checkpoint(CheckpointInfo(name=path.name, filename=str(path)), DevicePolicy())
    return loaded
