"""What a checkpoint's file says of its training acts on pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.pipeline.conftest import Draw, drawing_on, services_on

from latentd.types import Result

ZERO_SNR = {"sd_noise_schedule": "Zero Terminal SNR"}


@pytest.fixture(scope="module")
def draw(reference_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Draw]:
    """Draws on the v-prediction model of the reference, on copies of it that say so themselves, and on another."""
    data = tmp_path_factory.mktemp("data")
    folder, source = data / "models" / "Stable-diffusion", reference_data / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    for name in ("tiny-a.safetensors", "tiny-a.yaml", "tiny-vpred.safetensors", "tiny-vpred.yaml"):
        (folder / name).symlink_to(source / name)
    weights = load_file(source / "tiny-vpred.safetensors")
    marks = {key: torch.tensor([]) for key in ("v_pred", "ztsnr")}
    save_file(weights | {"v_pred": marks["v_pred"]}, folder / "marked-v.safetensors")
    save_file(weights | marks, folder / "marked-both.safetensors")
    services = services_on(data)
    yield drawing_on(services)
    services.close()


def drawn(draw: Draw, name: str, **options: object) -> np.ndarray:
    result: Result = draw({"sd_model_checkpoint": name, **options}, steps=3)
    return np.asarray(result.images[0].image, dtype=int)


def test_a_file_trained_to_zero_snr_is_drawn_so(draw: Draw) -> None:
    plain, forced = drawn(draw, "tiny-vpred"), drawn(draw, "tiny-vpred", **ZERO_SNR)
    assert np.abs(plain - forced).max() > 8
    assert np.array_equal(drawn(draw, "marked-v"), plain)
    assert np.array_equal(drawn(draw, "marked-both"), forced)


def test_the_option_still_forces(draw: Draw) -> None:
    assert np.array_equal(drawn(draw, "marked-v", **ZERO_SNR), drawn(draw, "marked-both"))
    assert np.array_equal(drawn(draw, "marked-both", **ZERO_SNR), drawn(draw, "marked-both"))


def test_the_next_checkpoint_has_its_own_schedule(draw: Draw) -> None:
    before = drawn(draw, "tiny-a")
    drawn(draw, "marked-both")
    assert np.array_equal(drawn(draw, "tiny-a"), before)
