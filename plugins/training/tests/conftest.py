"""A server with the plugin on tiny checkpoints of every family, and five pictures to learn from."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import latentd_training
import numpy as np
import pytest
from PIL import Image

from latentd.testing import AppFactory, tiny_models

FAMILIES: tuple[tiny_models.Family, ...] = ("sd1", "sd2", "sdxl", "inpainting")
#: A training of no time: 64 x 64 pixels, no pictures along the way.
SMALL: dict[str, Any] = {
    "data_root": "motif",
    "template_filename": "subject.txt",
    "training_width": 64,
    "training_height": 64,
    "create_image_every": 0,
    "learn_rate": "0.01",
    "steps": 4,
    "seed": 5,
}


def motif(seed: int, size: int = 64) -> Image.Image:
    """A disc on a plain ground, its place by ``seed``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    cx, cy = rng.integers(size // 3, 2 * size // 3, 2)
    inside = (x - cx) ** 2 + (y - cy) ** 2 < (size // 4) ** 2
    return Image.fromarray(np.where(inside[..., None], (220, 40, 40), (40, 60, 200)).astype(np.uint8))


@pytest.fixture
def small() -> dict[str, Any]:
    """Fields of a training of no time."""
    return dict(SMALL)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny checkpoints, one a family; not to be changed."""
    folder = tmp_path_factory.mktemp("weights")
    for family in FAMILIES:
        weights = tiny_models.checkpoint(family, vae_widths=tiny_models.EIGHTH)
        tiny_models.write(folder / f"{family}.safetensors", weights)
    return folder


def fill(folder: Path, weights: Path) -> Path:
    """The checkpoints and pictures in the data folder ``folder``."""
    models = folder / "models/Stable-diffusion"
    models.mkdir(parents=True)
    for file in weights.iterdir():
        (models / file.name).symlink_to(file)
    pictures = folder / "train/motif"
    pictures.mkdir(parents=True)
    for number in range(5):
        motif(number).save(pictures / f"{number}-a red disc, blue.png")
    templates = folder / "textual_inversion_templates"
    templates.mkdir()
    (templates / "named.txt").write_text("[name]\n")
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """The data folder of :func:`server`."""
    return fill(tmp_path_factory.mktemp("data"), weights)


@pytest.fixture(scope="session")
def server(data: Path) -> Iterator[Any]:
    """A client of one server for the whole run, with the checkpoint of SD 1 selected."""
    factory = AppFactory(data)
    client = factory([latentd_training])
    client.post("/sdapi/v1/options", json={"randn_source": "CPU", "sd_model_checkpoint": "sd1"})
    yield client
    factory.close()


@pytest.fixture(scope="session")
def post(server: Any) -> Callable[..., Any]:
    """``post(path, **fields)``: the body of a reply below /sdapi/v1 that must be a success."""

    def send(path: str, **fields: Any) -> Any:
        reply = server.post(f"/sdapi/v1/{path}", json=fields)
        assert reply.status_code == 200, reply.text
        return reply.json()

    return send


@pytest.fixture
def draw(post: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """``draw(prompt)``: the pixels of a small picture."""

    def run(prompt: str, **fields: Any) -> np.ndarray:
        body = {"prompt": prompt, "seed": 3, "steps": 2, "width": 64, "height": 64, "cfg_scale": 4, **fields}
        text = post("txt2img", **body)["images"][0]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))

    return run


@pytest.fixture
def options(server: Any) -> Iterator[Callable[..., None]]:
    """``options(key=value)``: set, and set back after the test."""
    before: dict[str, Any] = {}

    def change(**values: Any) -> None:
        known = server.get("/sdapi/v1/options").json()
        before.update({key: known[key] for key in values if key not in before})
        assert server.post("/sdapi/v1/options", json=values).status_code == 200

    yield change
    server.post("/sdapi/v1/options", json=before)
