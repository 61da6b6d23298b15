"""A server over folders in which every weight's name is also that of a pipe, a socket or a folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from tests.reference_server import ReferenceServer, listening

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes and sockets among its files")
FOLDERS = (
    *("Stable-diffusion", "VAE", "VAE-approx", "Lora", "hypernetworks", "ControlNet", "ControlNet/annotator", "GFPGAN"),
    *("Codeformer", "facexlib", "ESRGAN", "RealESRGAN", "BSRGAN", "SwinIR", "ScuNET", "DAT", "HAT", "LDSR", "BLIP"),
    *(
        "CLIP",
        "clip_interrogate",
        "interrogate",
        "torch_deepdanbooru",
        "WD14",
        "TAESD",
        "../embeddings",
        "../interrogate",
    ),
)
NAMES = (
    *("x.safetensors", "x.pt", "x.pth", "x.ckpt", "x.bin", "x.onnx", "x.png", "x.txt", "x.csv", "x.vae.pt", "x.yaml"),
    *("config.json", "vocab.txt", "GFPGANv1.4.pth", "model_base_caption_capfilt_large.pth", "tags.txt"),
    *("model-resnet_custom_v3.pt", "taesd_decoder.pth", "model.safetensors"),
)
LISTS = (
    *("sd-models", "sd-vae", "loras", "embeddings", "hypernetworks", "upscalers", "latent-upscale-modes", "samplers"),
    *(
        "face-restorers",
        "realesrgan-models",
        "prompt-styles",
        "options",
        "scripts",
        "script-info",
        "memory",
        "progress",
    ),
)


def plant(data: Path) -> None:
    """Pipes under every name; a socket and a folder beside them."""
    for folder in FOLDERS:
        inside = data / "models" / folder
        inside.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            if not (inside / name).exists():
                os.mkfifo(inside / name)
        for ending in (".safetensors", ".pt", ".pth", ".ckpt"):
            (inside / f"folder{ending}").mkdir(exist_ok=True)
            with socket.socket(socket.AF_UNIX) as server, chdir(inside):
                server.bind(f"s{ending}")
    for name in ("styles.csv", "config.json", "cache/hashes.json"):
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).unlink(missing_ok=True)
        os.mkfifo(data / name)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReferenceServer]:
    data = tmp_path_factory.mktemp("planted")
    plant(data)
    with listening(data) as url:
        yield ReferenceServer(url, data)


@pytest.mark.parametrize("name", LISTS)
def test_lists_answer(server: ReferenceServer, name: str) -> None:
    status, body = server.call("GET", f"/sdapi/v1/{name}", timeout=30)
    assert status == 200
    assert "x.safetensors" not in str(body)


@pytest.mark.parametrize("path", ["/controlnet/model_list", "/controlnet/module_list", "/controlnet/control_types"])
def test_control_models_are_listed(server: ReferenceServer, path: str) -> None:
    status, body = server.call("GET", path, timeout=30)
    assert status == 200
    assert "x [" not in str(body)


@pytest.mark.parametrize("name", ["checkpoints", "vae", "loras", "embeddings"])
def test_folders_are_looked_through_again(server: ReferenceServer, name: str) -> None:
    status, body = server.call("POST", f"/sdapi/v1/refresh-{name}", {}, timeout=30)
    assert status == 200, body


SMALL = {"prompt": "a red circle", "steps": 1, "width": 64, "height": 64}
GREY = "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAAAAAA6mKC9AAAAEElEQVR4nGNoQAMMowJoAgAUpQ/hjdFxfAAAAABJRU5ErkJggg=="


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("txt2img", {"prompt": "a red circle <lora:x:1> <hypernet:x:1> x"}),
        ("txt2img", {"restore_faces": True}),
        ("txt2img", {"override_settings": {"sd_vae": "x.safetensors"}}),
        ("txt2img", {"override_settings": {"sd_vae_decode_method": "TAESD"}}),
        ("txt2img", {"override_settings": {"sd_model_checkpoint": "x"}}),
        ("txt2img", {"styles": ["x"]}),
        ("txt2img", {"enable_hr": True, "hr_upscaler": "x"}),
        ("txt2img", {"alwayson_scripts": {"controlnet": {"args": [{"image": GREY, "model": "x", "module": "none"}]}}}),
        ("txt2img", {"alwayson_scripts": {"controlnet": {"args": [{"image": GREY, "module": "depth_midas"}]}}}),
        ("extra-single-image", {"image": GREY, "upscaler_1": "x"}),
        ("extra-single-image", {"image": GREY, "gfpgan_visibility": 1}),
        ("interrogate", {"image": GREY, "model": "clip"}),
        ("interrogate", {"image": GREY, "model": "deepdanbooru"}),
    ],
)
def test_requests_are_answered_and_the_next_one_too(
    server: ReferenceServer, path: str, body: dict[str, object]
) -> None:
    given = {**SMALL, **body} if path == "txt2img" else body
    status, reply = server.call("POST", f"/sdapi/v1/{path}", given, timeout=60)
    assert status < 500 or status == 503, reply
    assert server.call("GET", "/livez", timeout=5)[0] == 200


def test_options_stay_readable_where_a_pipe_stands_for_the_file(server: ReferenceServer) -> None:
    status, body = server.call("POST", "/sdapi/v1/options", {"CLIP_stop_at_last_layers": 2}, timeout=30)
    assert status in (200, 507), body
    assert server.call("POST", "/sdapi/v1/txt2img", SMALL, timeout=60)[0] == 200
