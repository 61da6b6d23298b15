"""A model is found under the spelling of another machine, where only one fits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from latentd.errors import NotFound
from latentd.models.files.checkpoints import Checkpoints
from latentd.models.files.hashes import HashCache
from latentd.models.files.vae_files import VaeFiles

NAMES = ("sdxl/Big.Model_v1.0 (fp16).safetensors", "sd15/small.safetensors", "one/twin.ckpt", "two/TWIN.ckpt")


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:10]


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints([write(tmp_path / "models", *NAMES)], HashCache(tmp_path / "cache"))


@pytest.mark.parametrize(
    "text",
    [
        f"sdxl\\Big.Model_v1.0 (fp16).safetensors [{digest(NAMES[0])}]",
        "sdxl\\Big.Model_v1.0 (fp16).safetensors [0123456789]",
        "SDXL/big.model_V1.0 (FP16).SAFETENSORS",
        "big.model_v1.0 (fp16)",
        "Big.Model_v1.0 (fp16).safetensors",
        "Big.Model_v1.0 (fp16).ckpt [0123456789]",
        "elsewhere\\sub\\Big.Model_v1.0 (fp16).safetensors",
        f"renamed.safetensors [{digest(NAMES[0])}]",
        f"renamed [{digest(NAMES[0]).upper()}]",
        digest(NAMES[0]).upper(),
        " sdxl_Big.Model_v1.0 (fp16) ",
    ],
)
def test_another_machines_spelling_finds_the_checkpoint(checkpoints: Checkpoints, text: str) -> None:
    found = checkpoints.named(text)
    assert found is not None
    assert found.name == NAMES[0]


@pytest.mark.parametrize(
    "text",
    [
        "Big.Model",
        "nothing [0123456789]",
        "[]",
        "",
        " ",
        "Twin",
        f"{NAMES[1]} [{digest(NAMES[0])}]",
        "sdxl/",
    ],
)
def test_what_fits_nothing_or_two_finds_none(checkpoints: Checkpoints, text: str) -> None:
    assert checkpoints.named(text) is None


def test_exact_names_win_over_other_spellings(checkpoints: Checkpoints) -> None:
    assert [info and info.name for info in map(checkpoints.named, ("twin", "TWIN", "One\\twin"))] == [
        NAMES[2],
        NAMES[3],
        NAMES[2],
    ]


def test_a_vae_is_found_in_another_spelling(tmp_path: Path) -> None:
    vaes = VaeFiles([write(tmp_path / "VAE", "ft-mse.safetensors", "kl.pt", "kl.ckpt")], HashCache(tmp_path / "cache"))
    for text in ("FT-MSE.safetensors", "vae\\ft-mse.safetensors", "ft-mse.ckpt", "Ft-Mse"):
        assert vaes.require(text).name == "ft-mse.safetensors"
    assert vaes.require("KL.pt").name == "kl.pt"
    with pytest.raises(NotFound):
        vaes.require("KL")
