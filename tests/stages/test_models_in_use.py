"""What stays loaded once a generation is done with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.conftest import drawing_on, services_on

from latentd.models.cache import ModelCache

SECOND: dict[str, dict[str, Any]] = {
    "refiner": {"refiner_checkpoint": "other", "refiner_switch_at": 0.5},
    "hires fix": {
        "enable_hr": True,
        "hr_upscaler": "Latent",
        "hr_scale": 1.0,
        "denoising_strength": 0.5,
        "hr_checkpoint_name": "other",
    },
}


@pytest.mark.parametrize("fields", SECOND.values(), ids=SECOND)
def test_of_two_checkpoints_at_work_one_stays(tiny_data: Path, fields: dict[str, Any]) -> None:
    """Both are on lease while the job runs, whatever the limit is; it counts again when they are given back."""
    services = services_on(tiny_data, checkpoint="base.safetensors")
    try:
        drawing_on(services)(**fields)
        assert [model.info.name for model in services.models.cache.loaded("checkpoint")] == ["base.safetensors"]
    finally:
        services.close()


def test_a_budget_counts_again_when_a_lease_ends() -> None:
    cache = ModelCache(budget=10)
    with cache.lease(("kind", "one"), object, 8):
        with cache.lease(("kind", "two"), object, 8):
            assert cache.nbytes == 16, "what is in use is never dropped"
        assert cache.nbytes == 8
    assert cache.nbytes == 8
