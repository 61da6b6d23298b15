"""A training as a job: what it shows, how it is stopped, what it leaves, and what it refuses."""

from __future__ import annotations

import csv
import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import latentd_training
import numpy as np
import pytest
import torch
from PIL import Image

from latentd.testing import AppFactory

Post = Callable[..., Any]


def _step(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["step"])


def _logs(data: Path, name: str) -> Path:
    (folder,) = (data / "train/textual_inversion").glob(f"*/{name}")
    return folder


def test_pictures_saves_and_losses_are_left_along_the_way(
    post: Post, server: Any, options: Any, data: Path, small: dict[str, Any]
) -> None:
    options(training_write_csv_every=2, save_training_settings_to_txt=True, unload_models_when_training=True)
    post("create/embedding", name="logged", num_vectors_per_token=2)
    fields = small | {"create_image_every": 4, "save_embedding_every": 2, "validate_every": 2}
    post("train/embedding", embedding_name="logged", id_task="logged", **fields)
    folder = _logs(data, "logged")
    assert sorted(p.name for p in (folder / "embeddings").iterdir()) == ["logged-2.pt", "logged-4.pt"]
    saved = torch.load(folder / "embeddings/logged-2.pt", weights_only=True)
    assert (saved["name"], saved["step"]) == ("logged-2", 2)
    with Image.open(folder / "images/logged-4.png") as picture:
        assert picture.size == (64, 64)
        assert "logged" in picture.info["parameters"]
    with (folder / "textual_inversion_loss.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert list(rows[0]) == ["step", "epoch", "epoch_step", "loss", "learn_rate"]
    (settings,) = folder.glob("settings-*.txt")
    assert "embedding_name: logged\n" in settings.read_text()
    job = server.get("/latentd/v1/jobs/logged").json()
    assert job["kind"] == "train-embedding"
    assert list(job["result"]["held_out_loss"]) == ["0", "2", "4"]
    assert job["meta"]["steps"] == 4


def test_the_embedding_in_a_preview_is_read_again_from_either_place(
    post: Post, server: Any, data: Path, small: dict[str, Any]
) -> None:
    post("create/embedding", name="hidden", num_vectors_per_token=2)
    post("train/embedding", embedding_name="hidden", **small | {"create_image_every": 4, "save_embedding_every": 4})
    folder = _logs(data, "hidden")
    saved = torch.load(folder / "embeddings/hidden-4.pt", weights_only=True)
    card = folder / "image_embeddings/hidden-4.png"
    wanted = saved["string_to_param"]["*"]
    from latentd.api import read_embedding

    bare = data / "without-text.png"
    with Image.open(card) as picture:
        Image.fromarray(np.asarray(picture)).save(bare)
    for path in (card, bare):
        found = read_embedding(path)
        assert found is not None
        assert (found.name, found.step) == ("hidden-4", 4)
        assert torch.equal(found.vectors[""], wanted)


def test_a_preview_shows_what_is_being_trained(post: Post, data: Path, draw: Any, small: dict[str, Any]) -> None:
    """The last preview, drawn before the file is written, is what the file draws afterwards."""
    shown = {"preview_from_txt2img": True, "preview_steps": 2, "preview_width": 64, "preview_height": 64}
    shown |= {"preview_cfg_scale": 4, "preview_seed": 3, "create_image_every": 4}
    post("create/embedding", name="seen", num_vectors_per_token=1)
    post("train/embedding", embedding_name="seen", **small | shown | {"preview_prompt": "seen"})
    preview = np.asarray(Image.open(_logs(data, "seen") / "images/seen-4.png"))
    assert np.array_equal(preview, draw("seen"))
    post("create/hypernetwork", name="seen hyper", seed=2)
    fields = small | shown | {"template_filename": "hypernetwork.txt", "preview_prompt": "a tree", "learn_rate": "0.05"}
    post("train/hypernetwork", hypernetwork_name="seen hyper", **fields)
    preview = np.asarray(Image.open(_logs(data, "seen hyper") / "images/seen hyper-4.png"))
    assert not np.array_equal(preview, draw("a tree"))
    assert np.abs(preview.astype(int) - draw("a tree <hypernet:seen hyper:1>")).max() <= 1


def _one_picture(folder: Path, weights: Path) -> Path:
    """``folder`` with the checkpoint of SD 1 and one picture to learn from."""
    models, pictures = folder / "models/Stable-diffusion", folder / "train/motif"
    models.mkdir(parents=True)
    pictures.mkdir(parents=True)
    (models / "sd1.safetensors").symlink_to(weights / "sd1.safetensors")
    Image.new("RGB", (64, 64), (200, 30, 30)).save(pictures / "one.png")
    return folder


class _Running:
    """A long training in a thread."""

    def __init__(self, server: Any, fields: dict[str, Any], task: str) -> None:
        self._server, self._task = server, task
        self.replies: list[Any] = []
        body = fields | {"steps": 100_000, "id_task": task}
        self._thread = threading.Thread(
            target=lambda: self.replies.append(server.post("/sdapi/v1/train/embedding", json=body))
        )
        self._thread.start()
        while self.job()["batch"] < 2:
            time.sleep(0.02)

    def job(self) -> dict[str, Any]:
        reply = self._server.get(f"/latentd/v1/jobs/{self._task}")
        return dict(reply.json()) if reply.status_code == 200 else {"batch": 0}

    def end(self) -> Any:
        self._thread.join(60)
        return self.replies[0]


def test_interrupt_saves_and_ends(post: Post, server: Any, data: Path, draw: Any, small: dict[str, Any]) -> None:
    post("create/embedding", name="stopped", num_vectors_per_token=1)
    running = _Running(server, small | {"embedding_name": "stopped"}, "task-stopped")
    shown = server.get("/sdapi/v1/progress").json()
    assert "Loss: 0." in shown["textinfo"] or "Loss: 1." in shown["textinfo"]
    assert "Step: " in shown["textinfo"]
    assert shown["state"]["job"] == "train-embedding"
    server.post("/sdapi/v1/skip")
    server.post("/sdapi/v1/interrupt")
    reply = running.end()
    path = data / "embeddings/stopped.pt"
    assert reply.json()["info"] == f"train embedding complete: filename: {path} error: None"
    assert running.job()["result"]["interrupted"]
    assert 2 <= _step(path) < 100_000
    assert draw("stopped").shape == (64, 64, 3)


def test_cancel_leaves_the_last_file_whole(post: Post, server: Any, data: Path, draw: Any, small: Any) -> None:
    post("create/embedding", name="cancelled", num_vectors_per_token=1)
    path = data / "embeddings/cancelled.pt"
    before, plain = path.read_bytes(), draw("a tree")
    running = _Running(server, small | {"embedding_name": "cancelled", "save_embedding_every": 2}, "task-cancelled")
    server.post("/latentd/v1/jobs/task-cancelled/cancel")
    assert running.end().status_code == 409
    assert path.read_bytes() == before
    assert _step(_logs(data, "cancelled") / "embeddings/cancelled-2.pt") == 2
    assert np.array_equal(draw("a tree"), plain)


def test_a_generation_waits_and_never_sees_half_trained_weights(
    post: Post, server: Any, draw: Any, small: dict[str, Any]
) -> None:
    post("create/embedding", name="patient", num_vectors_per_token=1)
    running = _Running(server, small | {"embedding_name": "patient"}, "task-patient")
    body = {"mode": "txt2img", "prompt": "patient", "seed": 3, "steps": 2, "width": 64, "height": 64, "cfg_scale": 4}
    waiting = server.post("/latentd/v1/jobs", json=body).json()
    assert server.get(waiting["url"]).json()["state"] == "queued"
    server.post("/sdapi/v1/interrupt")
    running.end()
    while server.get(waiting["url"]).json()["state"] != "completed":
        time.sleep(0.02)
    picture = Image.open(io.BytesIO(server.get(f"{waiting['url']}/images/0").content))
    assert np.array_equal(np.asarray(picture), draw("patient"))


def test_what_would_change_the_model_waits_for_the_training(
    post: Post, server: Any, data: Path, options: Any, small: dict[str, Any]
) -> None:
    options(sd_model_checkpoint="sd1")
    post("create/embedding", name="steadfast", num_vectors_per_token=1)
    running = _Running(server, small | {"embedding_name": "steadfast"}, "task-steadfast")
    with ThreadPoolExecutor(2) as beside:
        asked = [
            beside.submit(server.post, "/sdapi/v1/unload-checkpoint"),
            beside.submit(server.post, "/sdapi/v1/options", json={"sd_model_checkpoint": "sd2"}),
        ]
        step = running.job()["batch"]
        while running.job()["batch"] < step + 3:
            time.sleep(0.02)
        assert not any(one.done() for one in asked)
        server.post("/sdapi/v1/interrupt")
        running.end()
        assert [one.result().status_code for one in asked] == [200, 200]
    trained = torch.load(data / "embeddings/steadfast.pt", weights_only=True)
    assert (trained["sd_checkpoint_name"], trained["step"] >= step) == ("sd1", True)
    assert server.get("/sdapi/v1/options").json()["sd_model_checkpoint"].startswith("sd2")


def test_a_server_that_ends_saves_what_it_trains(tmp_path: Path, weights: Path, small: dict[str, Any]) -> None:
    factory = AppFactory(_one_picture(tmp_path, weights))
    try:
        client = factory([latentd_training])
        client.post("/sdapi/v1/create/embedding", json={"name": "last"})
        running = _Running(client, small | {"embedding_name": "last"}, "task-last")
        step = running.job()["batch"]
    finally:
        factory.close()
    assert _step(tmp_path / "embeddings/last.pt") >= step >= 2


def test_a_full_disk_fails_the_training_and_leaves_the_file(
    post: Post, server: Any, data: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    post("create/embedding", name="full", num_vectors_per_token=1)
    path = data / "embeddings/full.pt"
    before = path.read_bytes()
    import latentd_training.storage as storage

    def no_space(path: Path, data: bytes, *, sync: bool = False) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "write_atomically", no_space)
    reply = server.post("/sdapi/v1/train/embedding", json=small | {"embedding_name": "full"})
    assert (reply.status_code, reply.json()["detail"]) == (507, "full.pt could not be written: No space left on device")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("embedding_name", "no such", 404),
        ("learn_rate", "", 422),
        ("learn_rate", "fast", 422),
        ("learn_rate", "0.1:ten", 422),
        ("learn_rate", "-1", 422),
        ("clip_grad_value", "none", 422),
        ("data_root", "nothing", 422),
        ("data_root", "empty", 422),
        ("data_root", "/etc", 422),
        ("data_root", "../../etc", 422),
        ("data_root", "link", 422),
        ("data_root", "", 422),
        ("data_root", "a" * 300, 422),
        ("log_directory", "a/" * 3000, 422),
        ("log_directory", "motif/0-a red disc, blue.png/logs", 422),
        ("log_directory", "/tmp/elsewhere", 422),
        ("log_directory", "a/../../../b", 422),
        ("template_filename", "no.txt", 422),
        ("template_filename", "../named.txt", 422),
        ("template_filename", "captions.txt", 422),
        ("training_width", 70, 422),
        ("preview_sampler_name", "No Sampler", 404),
        ("preview_width", 0, 422),
    ],
)
def test_a_bad_value_is_refused_at_once_by_name(
    post: Post, server: Any, data: Path, small: dict[str, Any], field: str, value: Any, status: int
) -> None:
    if not (data / "embeddings/checked.pt").exists():
        post("create/embedding", name="checked")
    (data / "train/empty").mkdir(exist_ok=True)
    link = data / "train/link"
    if not link.is_symlink():
        link.symlink_to("/etc")
    body = small | {"embedding_name": "checked", "clip_grad_mode": "value", "create_image_every": 1}
    body |= {"preview_from_txt2img": True, field: value}
    reply = server.post("/sdapi/v1/train/embedding", json=body)
    assert reply.status_code == status, reply.text
    word = "preview_" if field.startswith("preview_") else field
    assert word in reply.json()["detail"]


def test_a_broken_picture_is_told_and_left_out(post: Post, data: Path, small: dict[str, Any]) -> None:
    folder = data / "train/partly"
    folder.mkdir()
    Image.new("RGBA", (80, 72), (9, 8, 7, 100)).save(folder / "good.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    post("create/embedding", name="partly")
    fields = small | {"data_root": "train/partly", "varsize": True, "use_weight": True, "clip_grad_mode": "norm"}
    reply = post("train/embedding", embedding_name="partly", **fields | {"clip_grad_value": "0.1:2, 0.01"})
    assert reply["warnings"] == ["broken.png is left out: Invalid encoded image"]


def test_an_inpainting_model_learns(post: Post, options: Any, data: Path, small: dict[str, Any]) -> None:
    options(sd_model_checkpoint="inpainting")
    post("create/embedding", name="masked")
    post("train/embedding", embedding_name="masked", **small)
    assert _step(data / "embeddings/masked.pt") == 4


def test_a_model_that_a_generation_loaded_is_trained_with(
    post: Post, data: Path, draw: Any, small: dict[str, Any]
) -> None:
    """Generations run in torch's inference mode, and weights made there could not be part of a training."""
    post("create/embedding", name="later")
    post("unload-checkpoint")
    draw("a tree")
    post("train/embedding", embedding_name="later", **small)
    assert _step(data / "embeddings/later.pt") == 4


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_checkpoints_in_half_precision_are_trained_with(
    tmp_path: Path, weights: Path, small: dict[str, Any], dtype: str
) -> None:
    factory = AppFactory(_one_picture(tmp_path, weights))
    try:
        client = factory([latentd_training], ["--dtype", dtype])
        client.post("/sdapi/v1/create/embedding", json={"name": "half"})
        path = tmp_path / "embeddings/half.pt"
        before = torch.load(path, weights_only=True)["string_to_param"]["*"]
        reply = client.post("/sdapi/v1/train/embedding", json=small | {"embedding_name": "half", "steps": 2})
        assert reply.status_code == 200, reply.text
        after = torch.load(path, weights_only=True)["string_to_param"]["*"]
        assert after.dtype == torch.float32
        assert 0 < float((after - before).abs().max()) < 1
    finally:
        factory.close()


def test_interrupt_during_a_preview_saves_as_well(
    post: Post, server: Any, data: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import latentd_training.previews as previews

    from latentd.api import Result

    def interrupted(request: Any, services: Any, control: Any, **more: Any) -> Result:
        control.progress.interrupted = True
        return Result(images=(), info={}, interrupted=True)

    monkeypatch.setattr(previews, "draw_beside", interrupted)
    post("create/embedding", name="mid preview")
    post("train/embedding", embedding_name="mid preview", **small | {"create_image_every": 2, "id_task": "mid-preview"})
    assert _step(data / "embeddings/mid preview.pt") == 2


def test_a_preview_that_fails_costs_the_picture_alone(
    post: Post, data: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import latentd_training.previews as previews

    from latentd.api import LatentdError

    def failing(*anything: Any, **more: Any) -> None:
        raise LatentdError("there is no memory for it", status=413)

    monkeypatch.setattr(previews, "draw_beside", failing)
    post("create/embedding", name="unseen")
    answer = post("train/embedding", embedding_name="unseen", **small | {"create_image_every": 2})
    assert answer["warnings"] == ["a preview could not be drawn: there is no memory for it"]
    assert _step(data / "embeddings/unseen.pt") == small["steps"]
