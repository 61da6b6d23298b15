"""Pickles made to hurt in every folder of weights, and a data folder that takes no conversions: the server serves."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.faults.test_disk import fill, mounted
from tests.faults.test_planted import GREY
from tests.models.test_unpickle import HOSTILE, packed
from tests.reference_server import ReferenceServer, listening, start_reference_server, started

pytestmark = pytest.mark.slow
SMALL = {"prompt": "a red circle", "steps": 1, "width": 64, "height": 64}
KINDS = tuple(HOSTILE)
#: Folder and name of a hostile file (``{}``: which), and the request that asks for it.
PLACES: dict[str, tuple[str, dict[str, Any]]] = {
    "models/Stable-diffusion/evil{}.ckpt": (
        "txt2img", {"override_settings": {"sd_model_checkpoint": "evil{}.ckpt"}},
    ),
    "models/VAE/evil{}.pt": ("txt2img", {"override_settings": {"sd_vae": "evil{}.pt"}}),
    "models/Lora/evil{}.pt": ("txt2img", {"prompt": "a red circle <lora:evil{}:1>"}),
    "models/hypernetworks/evil{}.pt": ("txt2img", {"prompt": "a red circle <hypernet:evil{}:1>"}),
    "models/ESRGAN/evil{}.pth": ("extra-single-image", {"image": GREY, "upscaler_1": "evil{}"}),
}  # fmt: skip


def plant(data: Path) -> None:
    for place in (*PLACES, "embeddings/evil{}.pt", "embeddings/evil{}.bin"):
        for number, kind in enumerate(KINDS):
            path = data / place.format(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            packed(path, HOSTILE[kind])


@pytest.fixture(scope="module")
def server(reference_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReferenceServer]:
    data = tmp_path_factory.mktemp("hostile")
    shutil.copytree(reference_data, data, dirs_exist_ok=True)
    weights = load_file(data / "models/Stable-diffusion/tiny-a.safetensors")
    torch.save({"state_dict": weights, "global_step": 3}, data / "models/Stable-diffusion/pickled.ckpt")
    shutil.copy(data / "models/Stable-diffusion/tiny-a.yaml", data / "models/Stable-diffusion/pickled.yaml")
    plant(data)
    with start_reference_server(data) as running:
        yield running


def _numbered(value: Any, number: int) -> Any:
    if isinstance(value, dict):
        return {key: _numbered(inner, number) for key, inner in value.items()}
    return value.replace("{}", str(number)) if isinstance(value, str) else value


@pytest.mark.parametrize("number", range(len(KINDS)), ids=KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_a_request_for_it_is_a_422_that_names_it(server: ReferenceServer, place: str, number: int) -> None:
    path, body = PLACES[place]
    given = _numbered(body, number)
    status, reply = server.call("POST", f"/sdapi/v1/{path}", {**SMALL, **given} if path == "txt2img" else given)
    assert status == 422, reply
    assert f"evil{number}." in str(reply)


def test_the_server_lists_what_is_sound_and_draws(server: ReferenceServer) -> None:
    status, body = server.call("GET", "/sdapi/v1/embeddings")
    assert status == 200
    names = {**body["loaded"], **body["skipped"]}
    assert names
    assert not [name for name in names if "evil" in name]
    assert server.call("GET", "/sdapi/v1/upscalers")[0] == 200
    assert server.call("POST", "/sdapi/v1/txt2img", SMALL)[0] == 200


def test_a_conversion_changes_no_title_and_no_picture(server: ReferenceServer) -> None:
    path = server.data / "models/Stable-diffusion/pickled.ckpt"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    pictures = []
    for name in ("tiny-a.safetensors", "pickled.ckpt", "pickled.ckpt"):
        given = {"override_settings": {"sd_model_checkpoint": name}, "seed": 4}
        status, reply = server.call("POST", "/sdapi/v1/txt2img", {**SMALL, **given})
        assert status == 200, reply
        pictures.append(_pixels(reply["images"][0]))
        server.call("POST", "/sdapi/v1/unload-checkpoint", {})
    assert pictures[0] == pictures[1] == pictures[2]
    assert list((server.data / "cache" / "converted").glob("*.safetensors"))
    (row,) = [row for row in server.call("GET", "/sdapi/v1/sd-models")[1] if row["model_name"] == "pickled"]
    assert row["sha256"] == digest
    assert row["title"] == f"pickled.ckpt [{digest[:10]}]"


def _pixels(picture: str) -> bytes:
    import base64
    import io

    from PIL import Image

    return Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").tobytes()


def _hypernetwork(data: Path) -> dict[str, Any]:
    name = next(path.stem for path in sorted((data / "models/hypernetworks").glob("*.pt")) if "evil" not in path.stem)
    return {**SMALL, "prompt": f"a red circle <hypernet:{name}:1>"}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the reader by /proc")
def test_the_reader_is_killed_and_the_next_file_is_read(reference_data: Path, tmp_path: Path) -> None:
    shutil.copytree(reference_data, tmp_path, dirs_exist_ok=True)
    with started(tmp_path) as process:
        server = ReferenceServer(process.url, tmp_path)
        assert server.call("GET", "/sdapi/v1/embeddings")[0] == 200
        assert server.call("POST", "/sdapi/v1/txt2img", _hypernetwork(tmp_path))[0] == 200
        readers = _children(process.process.pid)
        assert len(readers) == 1, "one reader for all files"
        os.kill(readers[0], signal.SIGKILL)
        time.sleep(0.2)
        shutil.rmtree(tmp_path / "cache" / "converted")
        server.call("POST", "/sdapi/v1/unload-checkpoint", {})
        replies = [server.call("POST", "/sdapi/v1/txt2img", _hypernetwork(tmp_path)) for _ in range(2)]
        assert replies[-1][0] == 200, replies
        assert _children(process.process.pid) != readers


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(child) for task in tasks for child in task.read_text(encoding="ascii").split()]
    return [child for child in found if "pickles.process" in Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8")]


@pytest.mark.parametrize("how", ["read-only", "full"])
def test_pickles_are_read_where_no_conversion_can_be_kept(reference_data: Path, tmp_path: Path, how: str) -> None:
    data = tmp_path / "data"
    with mounted(data, "64m"):
        for name in ("Stable-diffusion/tiny-a.safetensors", "Stable-diffusion/tiny-a.yaml", "hypernetworks"):
            source, target = reference_data / "models" / name, data / "models" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        if how == "full":
            fill(data / "filler")
        else:
            subprocess.run(["mount", "-o", "remount,ro", data], check=True)
        with listening(data) as url:
            server = ReferenceServer(url, data)
            status, reply = server.call("POST", "/sdapi/v1/txt2img", _hypernetwork(data))
            assert status == 200, reply
            assert not list(data.glob("cache/converted/*.safetensors"))
