"""Weight files that are cut off: the request that asks for one is told which, and the next one is served."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reference_server import ReferenceServer, listening

SMALL = {"prompt": "a red circle", "steps": 1, "width": 64, "height": 64}
#: What is cut, from which of the assembled reference files, and the request that asks for it.
CUT: dict[str, tuple[str, dict[str, Any]]] = {
    "models/Stable-diffusion/z-cut.safetensors": (
        "models/Stable-diffusion/tiny-a.safetensors", {"override_settings": {"sd_model_checkpoint": "z-cut"}},
    ),
    "models/VAE/z-cut.safetensors": (
        "models/VAE/*.safetensors", {"override_settings": {"sd_vae": "z-cut.safetensors"}},
    ),
    "models/Lora/z-cut.safetensors": ("models/Lora/*.safetensors", {"prompt": "a red circle <lora:z-cut:1>"}),
    "models/hypernetworks/z-cut.pt": ("models/hypernetworks/*.pt", {"prompt": "a red circle <hypernet:z-cut:1>"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def server(reference_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReferenceServer]:
    data = tmp_path_factory.mktemp("truncated")
    shutil.copytree(reference_data / "models", data / "models")
    for name, (source, _) in CUT.items():
        whole = sorted(data.glob(source))[0].read_bytes()
        (data / name).write_bytes(whole[: len(whole) * 2 // 3])
        (data / name).with_stem("z-empty").write_bytes(b"")
        (data / name).with_stem("z-start").write_bytes(whole[:40])
    (data / "embeddings").mkdir()
    for path in sorted((reference_data / "embeddings").glob("*.*")):
        (data / "embeddings" / f"cut{path.suffix}").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with listening(data) as url:
        yield ReferenceServer(url, data)


@pytest.mark.parametrize("kind", ["z-cut", "z-start", "z-empty"])
@pytest.mark.parametrize("name", CUT)
def test_a_file_that_is_cut_off_is_a_422_that_names_it(server: ReferenceServer, name: str, kind: str) -> None:
    path = Path(name).with_stem(kind)
    asked = {key: _renamed(value, kind) for key, value in CUT[name][1].items()}
    status, reply = server.call("POST", "/sdapi/v1/txt2img", {**SMALL, **asked}, timeout=60)
    assert status == 422, reply
    assert path.name in str(reply)
    assert server.call("POST", "/sdapi/v1/txt2img", SMALL, timeout=60)[0] == 200


def _renamed(value: Any, kind: str) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(inner, kind) for key, inner in value.items()}
    return value.replace("z-cut", kind)


def test_cut_embeddings_are_not_listed(server: ReferenceServer) -> None:
    status, body = server.call("GET", "/sdapi/v1/embeddings")
    assert status == 200
    assert "cut" not in {**body["loaded"], **body["skipped"]}
