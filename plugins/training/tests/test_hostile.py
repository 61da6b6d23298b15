"""Folders, files and requests that mean no good, or too much."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

Post = Callable[..., Any]
SECRET = "what nobody may read"


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that no training may touch, with a picture and a text."""
    folder = tmp_path_factory.mktemp("outside")
    Image.new("RGB", (64, 64), (1, 2, 3)).save(folder / "picture.png")
    (folder / "text.txt").write_text(SECRET)
    return folder


def _vectors(path: Path) -> torch.Tensor:
    return torch.load(path, weights_only=True)["string_to_param"]["*"]


# --- folders ---------------------------------------------------------------------------------------------------------


def test_what_a_folder_hides_is_told_and_left_out(
    post: Post, server: Any, data: Path, outside: Path, small: dict[str, Any]
) -> None:
    folder = data / "train/hiding"
    folder.mkdir()
    for name in ("good", "texted", "piped", "long"):
        Image.new("RGB", (64, 64), (200, 10, 10)).save(folder / f"{name}.png")
    Image.new("RGB", (64, 64), (200, 10, 10)).save(os.fsencode(folder) + b"/no\xfftext.png", "png")
    (folder / "linked.png").symlink_to(outside / "picture.png")
    (folder / "round.png").symlink_to(folder / "round.png")
    (folder / "inside.png").symlink_to(folder / "good.png")
    (folder / "texted.txt").symlink_to(outside / "text.txt")
    (folder / "long.txt").write_text("a, " * 20_000)
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "piped.txt")
    (folder / "folder.png").mkdir()
    post("create/embedding", name="hiding")
    fields = {"data_root": "hiding", "template_filename": "subject_filewords.txt", "steps": 1, "id_task": "hiding"}
    reply = server.post("/sdapi/v1/train/embedding", json=small | {"embedding_name": "hiding"} | fields)
    assert reply.status_code == 200, reply.text
    assert SECRET not in reply.text
    said = dict(sentence.split(" is left out: ") for sentence in reply.json()["warnings"])
    assert sorted(said) == [
        *("folder.png", "linked.png", "long.png", "pipe.png", "piped.png", "round.png", "texted.png"),
    ]
    assert said["linked.png"] == "linked.png is a link out of the folders for training"
    assert said["texted.png"] == "texted.txt is a link out of the folders for training"
    assert "over the limit of 20000" in said["long.png"]


def test_logs_follow_no_link_out(post: Post, server: Any, data: Path, outside: Path, small: dict[str, Any]) -> None:
    post("create/embedding", name="logged out")
    fields = small | {"embedding_name": "logged out", "steps": 1}
    (data / "train/linked logs").mkdir()
    (data / "train/linked logs" / time.strftime("%Y-%m-%d")).symlink_to(outside)
    reply = server.post("/sdapi/v1/train/embedding", json=fields | {"log_directory": "linked logs"})
    assert (reply.status_code, "log_directory" in reply.json()["detail"]) == (422, True)
    run = data / "train/other logs" / time.strftime("%Y-%m-%d") / "logged out"
    run.mkdir(parents=True)
    (run / "images").symlink_to(outside)
    reply = server.post("/sdapi/v1/train/embedding", json=fields | {"log_directory": "other logs"})
    assert (reply.status_code, "log_directory" in reply.json()["detail"]) == (422, True)
    (run / "images").unlink()
    (run / "textual_inversion_loss.csv").symlink_to(outside / "text.txt")
    server.post("/sdapi/v1/options", json={"training_write_csv_every": 1})
    try:
        reply = server.post("/sdapi/v1/train/embedding", json=fields | {"log_directory": "other logs"})
    finally:
        server.post("/sdapi/v1/options", json={"training_write_csv_every": 500})
    assert reply.status_code == 507
    assert (outside / "text.txt").read_text() == SECRET
    assert sorted(path.name for path in outside.iterdir()) == ["picture.png", "text.txt"]


def test_preparing_follows_no_link_and_makes_nothing_endless(post: Post, data: Path, outside: Path) -> None:
    folder = data / "train/unprepared"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / f"{'n' * 240}.png")
    Image.new("RGB", (20_000, 1)).save(folder / "sliver.png")
    (folder / "linked.png").symlink_to(outside / "picture.png")
    fields = {"process_width": 64, "process_height": 64, "process_split": True}
    reply = post("preprocess", process_src="unprepared", process_dst="prepared", **fields)
    assert [sentence.partition(":")[0] for sentence in reply["warnings"]] == [
        "linked.png is left out",
        "sliver.png is left out",
    ]
    (written,) = (data / "train/prepared").iterdir()
    assert written.name.startswith("00001-0-0-nnn")


# --- files to go on from ---------------------------------------------------------------------------------------------


class _Evil:
    """A pickle that makes a file where it is loaded as pickles are."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_that_runs_code_is_not_gone_on_from(
    post: Post, server: Any, options: Any, data: Path, tmp_path: Path, small: dict[str, Any]
) -> None:
    options(save_optimizer_state=True)
    post("create/embedding", name="trapped")
    post("train/embedding", embedding_name="trapped", **small | {"steps": 1})
    path = data / "embeddings/trapped.pt"
    before = path.read_bytes()
    path.with_name("trapped.pt.optim").write_bytes(pickle.dumps(_Evil(tmp_path / "ran")))
    reply = server.post("/sdapi/v1/train/embedding", json=small | {"embedding_name": "trapped"})
    assert reply.status_code >= 400
    assert "trapped.pt.optim" in reply.json()["detail"]
    hyper = data / "models/hypernetworks/trapped.pt"
    hyper.parent.mkdir(parents=True, exist_ok=True)
    hyper.write_bytes(pickle.dumps({768: _Evil(tmp_path / "ran")}))
    fields = small | {"hypernetwork_name": "trapped"}
    reply = server.post("/sdapi/v1/train/hypernetwork", json=fields)
    assert reply.status_code >= 400
    assert "trapped.pt" in reply.json()["detail"]
    hyper.unlink()
    assert path.read_bytes() == before
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["state"][0].pop("exp_avg"),
        lambda state: state["state"][0].update(exp_avg=torch.zeros(3, 3)),
        lambda state: state["state"][0].update(exp_avg_sq=torch.full((1, 32), float("nan"))),
        lambda state: state["state"][0].update(step="7"),
        lambda state: state["state"].update({5: state["state"][0]}),
        lambda state: state.update(state=[1, 2]),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_the_file_stays(
    post: Post, server: Any, options: Any, data: Path, small: dict[str, Any], change: Callable[[Any], Any]
) -> None:
    options(save_optimizer_state=True)
    fields = small | {"embedding_name": "stateful", "template_filename": "named.txt"}
    post("create/embedding", name="stateful", overwrite_old=True)
    post("train/embedding", **fields | {"steps": 1})
    beside = data / "embeddings/stateful.pt.optim"
    state = torch.load(beside, weights_only=True)
    change(state["optimizer_state_dict"])
    torch.save(state, beside)
    reply = server.post("/sdapi/v1/train/embedding", json=fields)
    assert "stateful.pt.optim is damaged, or of another optimiser" in reply.json()["detail"]
    assert torch.load(data / "embeddings/stateful.pt", weights_only=True)["step"] == 1


def test_the_settings_of_a_state_do_not_go_before_the_requests(
    post: Post, options: Any, data: Path, small: dict[str, Any]
) -> None:
    options(save_optimizer_state=True)
    found = []
    for settings in ({}, {"maximize": True, "rate_factor": 1e6, "weight_decay": 0.5}):
        post("create/embedding", name="set", overwrite_old=True)
        fields = small | {"embedding_name": "set", "template_filename": "named.txt"}
        post("train/embedding", **fields | {"steps": 1})
        beside = data / "embeddings/set.pt.optim"
        state = torch.load(beside, weights_only=True)
        state["optimizer_state_dict"]["param_groups"][0].update(settings)
        torch.save(state, beside)
        post("train/embedding", **fields)
        found.append(_vectors(data / "embeddings/set.pt"))
    assert torch.equal(found[0], found[1])


# --- requests --------------------------------------------------------------------------------------------------------


def test_what_is_no_number_is_not_saved(post: Post, server: Any, data: Path, small: dict[str, Any]) -> None:
    post("create/embedding", name="burst")
    before = _vectors(data / "embeddings/burst.pt")
    reply = server.post("/sdapi/v1/train/embedding", json=small | {"embedding_name": "burst", "learn_rate": "1e30"})
    assert (reply.status_code, "no number" in reply.json()["detail"]) == (422, True), reply.text
    assert torch.equal(_vectors(data / "embeddings/burst.pt"), before)
    fields = {"name": "burst", "learn_rate": "1e6", "steps": 1, "rank": 1, "template_filename": "captions.txt"}
    accepted = server.post("/latentd/v1/train/lora", json=small | fields | {"save_precision": "fp16"}).json()
    while (job := server.get(accepted["url"]).json())["state"] in ("queued", "running"):
        time.sleep(0.05)
    assert job["error"]["detail"] == "save_precision: fp16 cannot hold what burst has learnt"
    assert not (data / "models/Lora/burst.safetensors").exists()


@pytest.mark.parametrize(
    ("path", "fields", "word"),
    [
        ("create/hypernetwork", {"enable_sizes": [16384], "layer_structure": [1, 16, 16, 1]}, "layer_structure"),
        ("create/hypernetwork", {"enable_sizes": list(range(1, 100))}, "enable_sizes"),
        ("create/hypernetwork", {"layer_structure": {"1": 1}}, "layer_structure"),
        ("create/hypernetwork", {"layer_structure": "1, nan, 1"}, "layer_structure"),
        ("create/hypernetwork", {"layer_structure": "1, 2, 1", "activation_func": "__class__"}, "activation_func"),
        ("create/hypernetwork", {"use_dropout": True, "dropout_structure": [0, 1, 0]}, "dropout_structure"),
        ("create/embedding", {"num_vectors_per_token": 76}, "num_vectors_per_token"),
        ("create/embedding", {"init_text": "a" * 30_000}, "prompt"),
        ("create/embedding", {"name": "../../.."}, "name"),
        ("create/embedding", {"name": ["x"]}, "name"),
    ],
)
def test_what_cannot_be_created_is_refused_by_name(server: Any, path: str, fields: dict[str, Any], word: str) -> None:
    reply = server.post(f"/sdapi/v1/{path}", json={"name": "never", **fields})
    assert (reply.status_code // 100, word in reply.text) == (4, True), reply.text


def test_a_field_that_create_does_not_know_is_told(post: Post) -> None:
    for kind in ("embedding", "hypernetwork"):
        reply = post(f"create/{kind}", name="said", overwrite_old=True, initial_text="frog")
        assert reply["warnings"] == ["field 'initial_text' is not known and has no effect"]


def test_an_embedding_does_not_take_the_name_of_another_file(post: Post, options: Any, data: Path) -> None:
    post("create/embedding", name="only one")
    options(sd_model_checkpoint="sdxl")
    reply = post("create/embedding", name="only one", overwrite_old=True)
    taken = data / "embeddings/only one.pt"
    assert reply == {"info": f"create embedding error: file {taken} already exists"}
    assert not taken.with_suffix(".safetensors").exists()


def test_an_epoch_and_a_batch_are_bounded(post: Post, server: Any, options: Any, small: dict[str, Any]) -> None:
    post("create/embedding", name="bounded", overwrite_old=True)
    fields = small | {"embedding_name": "bounded"}
    options(training_image_repeats_per_epoch=10**9)
    reply = server.post("/sdapi/v1/train/embedding", json=fields)
    assert (reply.status_code, reply.json()["detail"]) == (422, "an epoch of 5000000000 pictures is too long")
    options(training_image_repeats_per_epoch=1000)
    fields |= {"batch_size": 1024, "training_width": 1024, "training_height": 1024}
    reply = server.post("/sdapi/v1/train/embedding", json=fields)
    assert reply.status_code in (413, 422)
    assert "a batch of over 256 megapixels is too large" in reply.json()["detail"]


def test_a_schedule_that_ends_early_is_told(post: Post, data: Path, small: dict[str, Any]) -> None:
    post("create/embedding", name="short")
    reply = post("train/embedding", embedding_name="short", **small | {"learn_rate": "0.01:2"})
    assert reply["warnings"] == ["learn_rate: it ends after 2 of 4 steps, and the training with it"]
    assert torch.load(data / "embeddings/short.pt", weights_only=True)["step"] == 2
