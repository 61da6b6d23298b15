"""Textual inversion over HTTP: created, trained, used, gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

Post = Callable[..., Any]
EVERY_FIELD = """
{"id_task": null, "embedding_name": "every", "learn_rate": 0.005, "batch_size": "1", "gradient_step": 1,
 "log_directory": "textual_inversion", "training_width": 64, "training_height": 64, "varsize": false, "steps": 1,
 "clip_grad_mode": "disabled", "clip_grad_value": 0.1, "shuffle_tags": false, "tag_drop_out": 0,
 "latent_sampling_method": "once", "use_weight": false, "create_image_every": 0, "save_embedding_every": 0,
 "template_filename": "subject.txt", "save_image_with_stored_embedding": true, "preview_from_txt2img": false,
 "preview_prompt": "", "preview_negative_prompt": null, "preview_steps": 20, "preview_sampler_index": 0,
 "preview_sampler_name": "Euler", "preview_cfg_scale": 7, "preview_seed": -1, "preview_width": 512,
 "preview_height": 512}
"""


def _vectors(path: Path) -> torch.Tensor:
    data = torch.load(path, weights_only=True)
    assert list(data["string_to_param"]) == ["*"]
    return data["string_to_param"]["*"]


def test_a_new_embedding_begins_with_the_vectors_of_its_words(post: Post, server: Any, data: Path) -> None:
    reply = post(
        "create/embedding", name="new/one?", num_vectors_per_token=3, overwrite_old=False, init_text="red disc"
    )
    path = data / "embeddings/newone.pt"
    assert reply == {"info": f"create embedding filename: {path}"}
    made = torch.load(path, weights_only=True)
    assert {k: made[k] for k in ("string_to_token", "name", "step", "sd_checkpoint", "sd_checkpoint_name")} == {
        "string_to_token": {"*": 265},
        "name": "newone",
        "step": 0,
        "sd_checkpoint": None,
        "sd_checkpoint_name": None,
    }
    # Two words over three vectors: the first stands twice.
    vectors = _vectors(path)
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[1], vectors[2])
    row = server.get("/sdapi/v1/embeddings").json()["loaded"]["newone"]
    assert (row["step"], row["vectors"], row["shape"]) == (0, 3, 32)
    again = post("create/embedding", name="newone", num_vectors_per_token=1)
    assert again == {"info": f"create embedding error: file {path} already exists"}
    assert _vectors(path).shape == (3, 32)
    post("create/embedding", name="newone", num_vectors_per_token=1, overwrite_old=True, init_text="")
    assert torch.equal(_vectors(path), torch.zeros(1, 32))


def test_a_trained_embedding_is_used_in_the_next_prompt(
    post: Post, draw: Any, server: Any, data: Path, small: dict[str, Any]
) -> None:
    post("create/embedding", name="discus", num_vectors_per_token=2)
    path = data / "embeddings/discus.pt"
    first, plain, named = _vectors(path), draw("a tree"), draw("discus")
    reply = post("train/embedding", embedding_name="discus", **small)
    assert reply == {"info": f"train embedding complete: filename: {path} error: None"}
    trained = torch.load(path, weights_only=True)
    assert (trained["name"], trained["step"], trained["sd_checkpoint_name"]) == ("discus", 4, "sd1")
    assert len(trained["sd_checkpoint"]) == 10
    assert not torch.equal(_vectors(path), first)
    assert not np.array_equal(draw("discus"), named)
    assert np.array_equal(draw("a tree"), plain), "something was left on the model"
    assert server.get("/sdapi/v1/embeddings").json()["loaded"]["discus"]["step"] == 4


def test_a_client_that_sends_every_field_of_the_original_is_served(
    post: Post, data: Path, small: dict[str, Any]
) -> None:
    """Those of early 2023 and of 1.8 together, as clients write them; null is as good as left out."""
    post("create/embedding", name="every", num_vectors_per_token="1", overwrite_old="false", init_text="*")
    fields = json.loads(EVERY_FIELD) | {"data_root": str(data / "train/motif")}
    reply = post("train/embedding", **fields)
    assert reply == {"info": f"train embedding complete: filename: {data / 'embeddings/every.pt'} error: None"}


def test_the_same_seed_gives_the_same_file_and_another_seed_another(
    post: Post, data: Path, small: dict[str, Any]
) -> None:
    found = {}
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        post("create/embedding", name=f"seed {name}", num_vectors_per_token=1)
        fields = small | {"seed": seed, "latent_sampling_method": "random", "shuffle_tags": True, "batch_size": 2}
        fields["template_filename"] = "named.txt"
        post("train/embedding", embedding_name=f"seed {name}", **fields)
        found[name] = _vectors(data / f"embeddings/seed {name}.pt")
    assert torch.equal(found["one"], found["two"])
    assert not torch.equal(found["one"], found["three"])


def test_broken_off_and_gone_on_with_is_as_unbroken(
    post: Post, options: Any, data: Path, small: dict[str, Any]
) -> None:
    options(save_optimizer_state=True)
    fields = small | {"template_filename": "named.txt", "batch_size": 2, "gradient_step": 2, "steps": 6}
    for name, stops in (("unbroken", [6]), ("broken", [2, 6])):
        post("create/embedding", name=name, num_vectors_per_token=1)
        for steps in stops:
            post("train/embedding", embedding_name=name, **fields | {"steps": steps})
    state = torch.load(data / "embeddings/broken.pt.optim", weights_only=True)
    assert state["optimizer_name"] == "AdamW"
    assert torch.equal(_vectors(data / "embeddings/broken.pt"), _vectors(data / "embeddings/unbroken.pt"))
    beyond = post("train/embedding", embedding_name="broken", **fields)
    assert beyond["warnings"] == ["Model has already been trained beyond specified max steps: 6 of 6 steps are done"]


@pytest.mark.parametrize(("family", "widths"), [("sd2", {"": 32}), ("sdxl", {"clip_l": 32, "clip_g": 32})])
def test_models_of_each_family_learn(
    post: Post, options: Any, draw: Any, data: Path, family: str, widths: Any, small: dict[str, Any]
) -> None:
    options(sd_model_checkpoint=family)
    name = f"{family}-disc"
    post("create/embedding", name=name, num_vectors_per_token=2)
    path = data / "embeddings" / f"{name}{'.safetensors' if len(widths) > 1 else '.pt'}"
    before = load_file(path) if len(widths) > 1 else {"": _vectors(path)}
    plain, named = draw("a tree"), draw(name)
    reply = post("train/embedding", embedding_name=name, **small)
    assert str(path) in reply["info"]
    after = load_file(path) if len(widths) > 1 else {"": _vectors(path)}
    assert {part: tuple(value.shape) for part, value in after.items()} == {p: (2, w) for p, w in widths.items()}
    assert all(not torch.equal(after[part], before[part]) for part in widths)
    assert not np.array_equal(draw(name), named)
    assert np.array_equal(draw("a tree"), plain)
    if len(widths) > 1:
        with safe_open(path, "pt") as file:
            assert (file.metadata()["step"], file.metadata()["sd_checkpoint_name"]) == ("4", family)


def test_an_embedding_for_another_kind_of_model_is_refused(
    post: Post, options: Any, server: Any, small: dict[str, Any]
) -> None:
    post("create/embedding", name="of sd1", num_vectors_per_token=1)
    options(sd_model_checkpoint="sdxl")
    reply = server.post("/sdapi/v1/train/embedding", json={"embedding_name": "of sd1", **small})
    assert reply.status_code == 422
    assert "embedding_name" in reply.json()["detail"]
    assert "another kind" in reply.json()["detail"]


def test_an_embedding_in_safetensors_stays_in_it(post: Post, server: Any, data: Path, small: dict[str, Any]) -> None:
    path = data / "embeddings/safe.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file({"emb_params": torch.full((2, 32), 0.01)}, path)
    server.post("/sdapi/v1/refresh-embeddings")
    reply = post("train/embedding", embedding_name="safe", **small)
    assert str(path) in reply["info"]
    ((key, vectors),) = load_file(path).items()
    assert (key, vectors.shape) == ("emb_params", (2, 32))
    assert not torch.equal(vectors, torch.full((2, 32), 0.01))
    assert server.get("/sdapi/v1/embeddings").json()["loaded"]["safe"]["step"] == 4
