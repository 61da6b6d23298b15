"""Weight files of every kind that a package carries are served beside the user's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from latentd.api import ModelFile, hookimpl
from latentd.testing import AppFactory

KINDS = {"checkpoint": "Stable-diffusion", "vae": "VAE", "lora": "Lora", "embedding": "../embeddings"}


@pytest.fixture
def pack(reference_data: Path, tmp_path: Path) -> SimpleNamespace:
    """A plugin that carries a file of each kind, outside the data folder."""
    folder, files = tmp_path / "pack", []
    folder.mkdir()
    wanted = {"checkpoint": "tiny-a", "vae": "alt-vae", "lora": "tinylora1", "embedding": "tinyti"}
    for kind, name in wanted.items():
        found = next(p for p in (reference_data / "models" / KINDS[kind]).glob(f"{name}.*") if p.suffix != ".yaml")
        path = folder / f"carried-{kind}{found.suffix}"
        shutil.copy(found, path)
        if kind == "checkpoint":
            shutil.copy(found.with_suffix(".yaml"), path.with_suffix(".yaml"))
        files.append(ModelFile(path=path, name=path.name, kind=kind))  # type: ignore[arg-type]

    @hookimpl
    def register_checkpoints() -> list[ModelFile]:
        return files

    return SimpleNamespace(__name__="pack", register_checkpoints=register_checkpoints)


def test_files_of_every_kind_are_listed_and_act(latentd_app: AppFactory, pack: SimpleNamespace) -> None:
    client = latentd_app([pack])

    def names(path: str, key: str) -> list[str]:
        return [row[key] for row in client.get(f"/sdapi/v1/{path}").json()]

    assert names("sd-models", "model_name") == ["carried-checkpoint"]
    assert names("sd-vae", "model_name") == ["carried-vae.safetensors"]
    assert names("loras", "name") == ["carried-lora"]
    assert list(client.get("/sdapi/v1/embeddings").json()["loaded"]) == ["carried-embedding"]
    body = {"steps": 2, "width": 64, "height": 64, "seed": 1}

    def picture(prompt: str) -> str:
        reply = client.post("/sdapi/v1/txt2img", json=body | {"prompt": prompt})
        assert reply.status_code == 200, reply.text
        return str(reply.json()["images"][0])

    plain = picture("circle")
    assert picture("circle <lora:carried-lora:1>") != plain
    assert picture("circle carried-embedding") != picture("circle carried-nothing")


def test_the_users_own_file_of_that_name_wins(
    latentd_app: AppFactory, pack: SimpleNamespace, reference_data: Path
) -> None:
    own = latentd_app.data_dir / "models" / "Lora" / "carried-lora.safetensors"
    own.parent.mkdir(parents=True)
    shutil.copy(reference_data / "models" / "Lora" / "tinyloha.safetensors", own)
    (row,) = latentd_app([pack]).get("/sdapi/v1/loras").json()
    assert row["path"] == str(own)
