"""Contracts of the endpoints that train."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from tests.compat.contract import contract, get, post
from tests.reference_server import ReferenceServer

FAILURES = (
    "fields that a client leaves out have defaults; a bad one is a 4xx that names it, and a training that fails is an "
    "error, where the original's 200 has the error in its text"
)
SMALL: dict[str, Any] = {
    "data_root": "compat",
    "log_directory": "textual_inversion",
    "template_filename": "subject.txt",
    "training_width": 64,
    "training_height": 64,
    "create_image_every": 0,
    "learn_rate": "0.005:1, 1e-3",
    "steps": 2,
}


def _pictures(server: ReferenceServer) -> None:
    folder = server.data / "train/compat"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(2):
        Image.new("RGB", (64, 64), (200, 40 * number, 60)).save(folder / f"{number}.png")


@contextmanager
def _trained(server: ReferenceServer, file: str) -> Iterator[Path]:
    """The path of a file that is made within, and taken away again: other tests list what is there."""
    path = server.data / file
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        for kind in ("embeddings", "loras"):
            post(server, f"/sdapi/v1/refresh-{kind}", {})


@contract("POST /sdapi/v1/create/embedding", "superset", "all fields but `name` have defaults; SDXL's are .safetensors")
def create_embedding(server: ReferenceServer) -> None:
    with _trained(server, "embeddings/compat-new.pt") as path:
        body = {"name": "compat-new", "num_vectors_per_token": 2, "overwrite_old": True, "init_text": "*"}
        assert post(server, "/sdapi/v1/create/embedding", body) == {"info": f"create embedding filename: {path}"}
        assert get(server, "/sdapi/v1/embeddings")["loaded"]["compat-new"]["vectors"] == 2
        again = post(server, "/sdapi/v1/create/embedding", body | {"overwrite_old": False})
        assert again == {"info": f"create embedding error: file {path} already exists"}


@contract("POST /sdapi/v1/create/hypernetwork", "superset", "all fields but `name` have defaults")
def create_hypernetwork(server: ReferenceServer) -> None:
    with _trained(server, "models/hypernetworks/compat-new.pt") as path:
        body = {"name": "compat-new", "overwrite_old": True, "layer_structure": "1, 2, 1", "activation_func": "relu"}
        made = post(server, "/sdapi/v1/create/hypernetwork", body)
        assert made == {"info": "create hypernetwork filename: None"}
        assert {"name": "compat-new", "path": str(path)} in get(server, "/sdapi/v1/hypernetworks")
        again = post(server, "/sdapi/v1/create/hypernetwork", body | {"overwrite_old": False})
        assert again == {"info": f"create hypernetwork error: file {path} already exists"}


@contract("POST /sdapi/v1/train/embedding", "different", FAILURES)
def train_embedding(server: ReferenceServer) -> None:
    _pictures(server)
    with _trained(server, "embeddings/compat-trained.pt") as path:
        post(server, "/sdapi/v1/create/embedding", {"name": "compat-trained", "overwrite_old": True})
        done = post(
            server, "/sdapi/v1/train/embedding", SMALL | {"embedding_name": "compat-trained", "id_task": "compat-t"}
        )
        assert done["info"] == f"train embedding complete: filename: {path} error: None"
        assert get(server, "/sdapi/v1/embeddings")["loaded"]["compat-trained"]["step"] == 2
        status, refused = server.call("POST", "/sdapi/v1/train/embedding", SMALL | {"embedding_name": "no such"})
        assert (status, refused["detail"]) == (404, "embedding_name: 'no such' not found")


@contract("POST /sdapi/v1/train/hypernetwork", "different", FAILURES)
def train_hypernetwork(server: ReferenceServer) -> None:
    _pictures(server)
    with _trained(server, "models/hypernetworks/compat-trained.pt") as path:
        post(server, "/sdapi/v1/create/hypernetwork", {"name": "compat-trained", "overwrite_old": True})
        body = SMALL | {"hypernetwork_name": "compat-trained", "template_filename": "hypernetwork.txt"}
        done = post(server, "/sdapi/v1/train/hypernetwork", body)
        assert done["info"] == f"train embedding complete: filename: {path} error: None"
        assert server.call("POST", "/sdapi/v1/train/hypernetwork", body | {"learn_rate": "much"})[0] == 422


@contract(
    "POST /sdapi/v1/preprocess",
    "different",
    "early 2023's; faces are not looked for, which is told; a bad value is a 4xx, where the original's is a 200",
)
def preprocess(server: ReferenceServer) -> None:
    _pictures(server)
    body = {"process_src": "compat", "process_dst": "compat-out", "process_width": 64, "process_height": 64}
    assert post(server, "/sdapi/v1/preprocess", body | {"process_flip": True}) == {"info": "preprocess complete"}
    assert len(list((server.data / "train/compat-out").glob("*.png"))) >= 4


@contract("POST /latentd/v1/train/lora", "latentd's own", "trains a LoRA and answers 202 at once")
def train_lora(server: ReferenceServer) -> None:
    _pictures(server)
    with _trained(server, "models/Lora/compat-trained.safetensors"):
        fields = {"name": "compat-trained", "overwrite_old": True, "rank": 2, "template_filename": "captions.txt"}
        status, accepted = server.call("POST", "/latentd/v1/train/lora", SMALL | fields)
        assert status == 202, accepted
        while (job := get(server, accepted["url"]))["state"] in ("queued", "running"):
            time.sleep(0.1)
        assert (job["state"], job["result"]["step"]) == ("completed", 2)
        assert "compat-trained" in {row["name"] for row in get(server, "/sdapi/v1/loras")}
