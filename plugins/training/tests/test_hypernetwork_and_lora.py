"""Hypernetworks and LoRAs over HTTP: trained, used by their tags, gone on with."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

Post = Callable[..., Any]


@pytest.fixture
def train_lora(server: Any, small: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """``train_lora(name=...)``: the document of the ended job."""

    def run(**fields: Any) -> dict[str, Any]:
        body = small | {"template_filename": "captions.txt", "rank": 4} | fields
        reply = server.post("/latentd/v1/train/lora", json=body)
        assert reply.status_code == 202, reply.text
        while (job := server.get(reply.json()["url"]).json())["state"] in ("queued", "running"):
            time.sleep(0.05)
        assert job["state"] == "completed", job["error"]
        return job

    return run


def test_a_trained_hypernetwork_is_used_by_its_tag(
    post: Post, draw: Any, data: Path, options: Any, small: dict[str, Any]
) -> None:
    options(save_optimizer_state=True)
    fields = small | {"template_filename": "hypernetwork.txt"}
    structure = {"layer_structure": [1, 2, 1], "activation_func": "relu", "add_layer_norm": True, "use_dropout": True}
    made = post("create/hypernetwork", name="hyper", seed=1, weight_init="XavierNormal", **structure)
    assert made == {"info": "create hypernetwork filename: None"}
    path = data / "models/hypernetworks/hyper.pt"
    before = torch.load(path, weights_only=True)
    assert before["layer_structure"] == [1, 2, 1]
    assert next(list(part) for part in before[32])[:2] == ["linear.0.weight", "linear.0.bias"]
    plain = draw("a tree")
    reply = post("train/hypernetwork", hypernetwork_name="hyper", **fields)
    assert reply == {"info": f"train embedding complete: filename: {path} error: None"}
    after = torch.load(path, weights_only=True)
    assert (after["step"], after["sd_checkpoint_name"], after["is_layer_norm"]) == (4, "sd1", True)
    changed = [not torch.equal(after[32][n][key], before[32][n][key]) for n in (0, 1) for key in before[32][n]]
    assert all(changed)
    assert not np.array_equal(draw("a tree <hypernet:hyper:1>"), plain)
    assert np.array_equal(draw("a tree"), plain), "something was left on the model"
    post("train/hypernetwork", hypernetwork_name="hyper", **fields | {"steps": 6})
    assert torch.load(path, weights_only=True)["step"] == 6
    state = torch.load(data / "models/hypernetworks/hyper.pt.optim", weights_only=True)
    assert int(state["optimizer_state_dict"]["state"][0]["step"]) == 6


@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_hypernetworks_of_other_families_learn(
    post: Post, draw: Any, options: Any, data: Path, family: str, small: dict[str, Any]
) -> None:
    options(sd_model_checkpoint=family)
    name = f"hyper {family}"
    post("create/hypernetwork", name=name, seed=1)
    path = data / f"models/hypernetworks/{name}.pt"
    before, plain = torch.load(path, weights_only=True), draw("a tree")
    post("train/hypernetwork", hypernetwork_name=name, **small | {"steps": 2, "learn_rate": "0.05"})
    after = torch.load(path, weights_only=True)
    for width in (key for key in before if isinstance(key, int)):
        parts = [(before[width][part][key], after[width][part][key]) for part in (0, 1) for key in before[width][part]]
        assert not any(torch.equal(old, new) for old, new in parts)
    assert not np.array_equal(draw(f"a tree <hypernet:{name}:1>"), plain)
    assert np.array_equal(draw("a tree"), plain), "something was left on the model"


@pytest.mark.parametrize(
    ("family", "owners", "version"),
    [
        ("sd1", {"lora_unet_down_blocks_0", "lora_te_text_model"}, "sd_v1"),
        ("sd2", {"lora_unet_down_blocks_0", "lora_te_text_model"}, "sd_v2"),
        ("sdxl", {"lora_unet_output_blocks_0", "lora_te1_text_model", "lora_te2_text_model"}, "sdxl_base_v1-0"),
    ],
)
def test_a_trained_lora_acts_whole(
    train_lora: Any, draw: Any, data: Path, options: Any, family: str, owners: set[str], version: str
) -> None:
    options(sd_model_checkpoint=family)
    plain = draw("a tree")
    every = ["attention", "feed_forward", "projection", "convolution"]
    job = train_lora(name=f"lora {family}", train_text_encoder=True, targets=every, alpha=2)
    path = data / f"models/Lora/lora {family}.safetensors"
    assert job["result"]["filename"] == str(path)
    weights = load_file(path)
    assert all(any(key.startswith(owner) for key in weights) for owner in owners)
    with safe_open(path, "pt") as file:
        notes = file.metadata()
    assert (notes["ss_base_model_version"], notes["ss_network_dim"], notes["ss_steps"]) == (version, "4", "4")
    reply = draw(f"a tree <lora:lora {family}:1>")
    assert not np.array_equal(reply, plain)
    assert np.array_equal(draw("a tree"), plain), "something was left on the model"


def test_every_module_of_a_lora_is_found_in_the_model(train_lora: Any, server: Any) -> None:
    train_lora(name="whole", train_text_encoder=True)
    body = {"prompt": "a <lora:whole:1>", "steps": 1, "width": 64, "height": 64}
    reply = server.post("/sdapi/v1/txt2img", json=body)
    assert reply.status_code == 200
    assert "fits" not in reply.text


def test_a_lora_gone_on_with_is_as_unbroken(train_lora: Any, options: Any, data: Path) -> None:
    options(save_optimizer_state=True)
    train_lora(name="unbroken", steps=4)
    train_lora(name="broken", steps=2)
    train_lora(name="broken", steps=4, resume=True)
    first, second = (load_file(data / f"models/Lora/{name}.safetensors") for name in ("unbroken", "broken"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_drop_out_is_repeated_by_the_seed_and_by_going_on(
    post: Post, train_lora: Any, options: Any, data: Path, small: dict[str, Any]
) -> None:
    options(save_optimizer_state=True)
    fields = {"use_dropout": True, "layer_structure": "1, 2, 2, 1", "dropout_structure": "0, 0.3, 0.5, 0", "seed": 1}
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, stops in (("whole", [2]), ("halves", [1, 2]), ("other", [2])):
        post("create/hypernetwork", name=f"drop {name}", **fields)
        path = data / f"models/hypernetworks/drop {name}.pt"
        for steps in stops:
            seed = 6 if name == "other" else 5
            run = small | {"template_filename": "captions.txt", "steps": steps, "seed": seed}
            post("train/hypernetwork", hypernetwork_name=f"drop {name}", **run)
            train_lora(name=f"drop {name}", dropout=0.4, steps=steps, seed=seed, resume=steps > min(stops))
        state = torch.load(path, weights_only=True)
        assert (state["dropout_structure"], state["last_layer_dropout"]) == ([0, 0.3, 0.5, 0], True)
        found[name] = {**state[32][0], **load_file(data / f"models/Lora/drop {name}.safetensors")}
    assert all(torch.equal(value, found["halves"][key]) for key, value in found["whole"].items())
    assert any(not torch.equal(value, found["other"][key]) for key, value in found["whole"].items())


def test_of_two_trainings_of_a_new_name_the_second_replaces_nothing(
    server: Any, data: Path, small: dict[str, Any]
) -> None:
    body = small | {"name": "twice", "template_filename": "captions.txt", "rank": 1, "targets": ["projection"]}
    first, second = (server.post("/latentd/v1/train/lora", json=body | {"steps": steps}) for steps in (20, 1))
    if second.status_code == 202:
        while (job := server.get(second.json()["url"]).json())["state"] in ("queued", "running"):
            time.sleep(0.05)
        assert job["error"]["detail"] == "name: file twice.safetensors already exists"
    else:
        assert second.status_code == 409
    assert server.get(first.json()["url"]).json()["result"]["step"] == 20


def test_a_file_that_is_there_is_neither_replaced_nor_gone_on_with_unasked(
    train_lora: Any, server: Any, small: dict[str, Any]
) -> None:
    train_lora(name="there", steps=1)
    body = small | {"name": "there", "template_filename": "captions.txt"}
    assert server.post("/latentd/v1/train/lora", json=body).status_code == 409
    other = server.post("/latentd/v1/train/lora", json=body | {"name": "nothing", "resume": True})
    assert (other.status_code, other.json()["detail"]) == (404, "name: there is no nothing.safetensors to go on from")
