"""Previews and metadata of networks: what cards show, and nothing from anywhere else on the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from latentd.testing import AppFactory


@pytest.fixture
def lora(latentd_app: AppFactory) -> Path:
    """A network's file with metadata, and its folder."""
    folder = latentd_app.data_dir / "models" / "Lora"
    folder.mkdir(parents=True)
    write_weights(folder / "hat.safetensors", {"ss_tag_frequency": '{"a": 1}', "ssmd_cover_images": '["x"]'})
    return folder / "hat.safetensors"


def write_weights(path: Path, metadata: dict[str, str]) -> None:
    header: dict[str, Any] = {"__metadata__": metadata, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))


def draw(path: Path) -> bytes:
    Image.new("RGB", (4, 3), "red").save(path)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["hat.png", "hat.preview.png", "hat.jpeg", "hat.preview.webp"])
def test_a_preview_is_found_by_its_own_name_and_its_models(latentd_app: AppFactory, lora: Path, name: str) -> None:
    picture = draw(lora.with_name(name))
    client = latentd_app()
    for asked in (lora.with_name(name), lora, f"models/Lora/{name}"):
        reply = client.get("/sd_extra_networks/thumb", params={"filename": str(asked)})
        assert (reply.status_code, reply.content) == (200, picture)
        assert reply.headers["content-type"].startswith("image/")
        assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "models/Lora", "models/Lora/none.png", "models/Lora/hat.safetensors", "models/Lora/secret.txt"),
        *("secret.png", "models/Lora/../../secret.png", "models/Lora/../Lora2/secret.png", "models/Lora/pipe.png"),
        *("~nobody-of-that-name/x.png", "models/Lora/a\0b.png", "models/Lora/" + "x" * 300 + ".png", "/etc/passwd"),
        *("models/Lora/folder.png", "file:models/Lora/none.png"),
    ],
)
def test_nothing_else_is_served(latentd_app: AppFactory, lora: Path, name: str) -> None:
    import os

    draw(latentd_app.data_dir / "secret.png")
    (latentd_app.data_dir / "models/Lora2").mkdir()
    draw(latentd_app.data_dir / "models/Lora2/secret.png")
    (lora.parent / "secret.txt").write_text("text")
    (lora.parent / "folder.png").mkdir()
    os.mkfifo(lora.parent / "pipe.png")
    reply = latentd_app().get("/sd_extra_networks/thumb", params={"filename": name})
    assert (reply.status_code, reply.json()["detail"]) == (404, "File not found")


def test_a_file_outside_is_not_told_from_none(latentd_app: AppFactory) -> None:
    draw(latentd_app.data_dir / "secret.png")
    client = latentd_app()
    there, missing = (
        client.get("/sd_extra_networks/thumb", params={"filename": str(latentd_app.data_dir / name)})
        for name in ("secret.png", "missing.png")
    )
    assert there.json() == missing.json()


def test_metadata_is_a_text_without_pictures(latentd_app: AppFactory, lora: Path) -> None:
    checkpoints = latentd_app.data_dir / "models" / "Stable-diffusion" / "sub"
    checkpoints.mkdir(parents=True)
    write_weights(checkpoints / "base.safetensors", {"modelspec.title": "Base"})
    client = latentd_app()

    def told(page: str, item: str) -> Any:
        return client.get("/sd_extra_networks/metadata", params={"page": page, "item": item}).json()

    assert told("lora", "hat") == {"metadata": json.dumps({"ss_tag_frequency": {"a": 1}}, indent=4)}
    assert json.loads(told("checkpoints", "base")["metadata"]) == {"modelspec.title": "Base"}
    for page, item in (("lora", "cap"), ("checkpoints", "hat"), ("textual inversion", "hat"), ("", "")):
        assert told(page, item) == {}
