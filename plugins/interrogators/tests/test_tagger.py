"""The routes of the tagger extensions, with networks that tell red, green and blue."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import latentd_interrogators
import numpy as np
import pytest
from interrogation import as_text, plain
from latentd_interrogators.tagger_names import PUBLISHED
from PIL import Image
from test_deepdanbooru import write_onnx

from latentd.testing import AppFactory

CSV = "tag_id,name,category,count\n1,general,9,5\n2,very_blue,0,5\n3,very_green,4,5\n4,very_red,0,5\n"
MODEL = "wd14-vit-v2-git"
FOLDER = "wd-v1-4-vit-tagger-v2"


@pytest.fixture
def wd14(latentd_app: AppFactory) -> Path:
    """``models/WD14`` with one published tagger."""
    folder = latentd_app.data_dir / "models/WD14"
    write_onnx(folder / FOLDER, gain=1.0)
    (folder / FOLDER / "selected_tags.csv").write_text(CSV)
    return folder


def ask(client: Any, image: Image.Image, **fields: Any) -> Any:
    body = {"image": as_text(image), "model": MODEL} | fields
    answer = client.post("/tagger/v1/interrogate", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def sure(level: float) -> float:
    """The score of a channel whose mean is ``level``."""
    return float(1 / (1 + np.exp(-np.float32(level - 40))))


def test_tags_and_ratings_are_grouped_with_their_scores(latentd_app: AppFactory, wd14: Path) -> None:
    client = latentd_app([latentd_interrogators])
    # Red 255 of 255, green 42, blue 0; the rating's bias is 100.
    told = ask(client, Image.new("RGB", (30, 30), (255, 42, 0)))["caption"]
    assert told == {
        "rating": {"general": pytest.approx(1)},
        "tag": {"very_red": pytest.approx(1), "very_green": pytest.approx(sure(42)), "very_blue": pytest.approx(0)},
    }
    assert list(told["tag"]) == ["very_red", "very_green", "very_blue"]
    assert list(ask(client, plain("red", (30, 30)), threshold=0.5)["caption"]["tag"]) == ["very_red"]


def test_the_flat_form_and_its_threshold(latentd_app: AppFactory, wd14: Path) -> None:
    client = latentd_app([latentd_interrogators])
    client.post("/sdapi/v1/options", json={"tagger_caption_form": "flat"})
    assert ask(client, plain("red", (30, 30)))["caption"] == {
        "general": pytest.approx(1),
        "very_red": pytest.approx(1),
    }
    assert len(ask(client, plain("red", (30, 30)), threshold=0)["caption"]) == 4


def test_what_is_transparent_counts_as_white(latentd_app: AppFactory, wd14: Path) -> None:
    client = latentd_app([latentd_interrogators])
    tags = ask(client, Image.new("RGBA", (30, 30), (255, 0, 0, 0)), threshold=0.5)["caption"]["tag"]
    assert sorted(tags) == ["very_blue", "very_green", "very_red"]


def test_taggers_are_listed_by_folder_and_file(latentd_app: AppFactory, wd14: Path) -> None:
    shutil.copy(wd14 / FOLDER / "model.onnx", wd14 / FOLDER / "mine.onnx")
    write_onnx(wd14 / "unlabelled", gain=1.0)
    torch_file = latentd_app.data_dir / "models/torch_deepdanbooru/model-resnet_custom_v3.pt"
    torch_file.parent.mkdir()
    torch_file.write_bytes(b"")
    client = latentd_app([latentd_interrogators])
    listed = client.get("/tagger/v1/interrogators").json()["models"]
    assert sorted(listed) == ["deepdanbooru", "mine", FOLDER]
    for name in (FOLDER, FOLDER.upper(), "mine", "WD14-vit-v2"):
        assert ask(client, plain("red", (30, 30)), model=name)["caption"]["rating"]


def test_missing_weights_and_unknown_names(latentd_app: AppFactory, wd14: Path) -> None:
    client = latentd_app([latentd_interrogators])

    def refused(**fields: Any) -> Any:
        answer = client.post("/tagger/v1/interrogate", json={"image": as_text(plain("red"))} | fields)
        return answer.status_code, answer.json()

    status, body = refused(model="wd14-swinv2-v2")
    assert status == 422
    assert "model.onnx and selected_tags.csv are missing in" in body["detail"]
    assert str(wd14 / "wd-v1-4-swinv2-tagger-v2") in body["detail"]
    status, body = refused(model="none-such")
    assert (status, body["detail"], body["hint"]) == (404, "Model not found", f"known: {FOLDER}")
    status, body = refused(model=MODEL, image=None)
    assert (status, body["detail"]) == (404, "Image not found")
    for fields, field in (({}, "model"), ({"model": MODEL, "threshold": 1.1}, "threshold")):
        status, body = refused(**fields)
        assert (status, body["detail"][0]["loc"]) == (422, ["body", field])
    for field in ("queue", "name_in_queue"):
        assert refused(model=MODEL, **{field: "a"})[0] == 422
    assert refused(model=MODEL, image="no picture")[0] in (400, 422)


def test_without_any_tagger_the_folder_is_named(latentd_app: AppFactory) -> None:
    client = latentd_app([latentd_interrogators])
    assert client.get("/tagger/v1/interrogators").json() == {"models": []}
    answer = client.post("/tagger/v1/interrogate", json={"image": as_text(plain("red")), "model": "x"})
    assert str(latentd_app.data_dir / "models/WD14") in answer.json()["hint"]


def test_unknown_fields_are_told(latentd_app: AppFactory, wd14: Path) -> None:
    client = latentd_app([latentd_interrogators])
    told = ask(client, plain("red"), escape_tag=True, queue="", name_in_queue="")
    assert told["warnings"] == ["field 'escape_tag' is not known and has no effect"]
    assert "warnings" not in ask(client, plain("red"))


def test_kept_taggers_are_unloaded(latentd_app: AppFactory, wd14: Path) -> None:
    client = latentd_app([latentd_interrogators])
    client.post("/sdapi/v1/options", json={"interrogate_keep_models_in_memory": True})
    ask(client, plain("red"))
    assert len(client.app.state.services.models.cache.loaded("interrogator")) == 1
    assert client.post("/tagger/v1/unload-interrogators").json() == "Successfully unload 1 model(s)"
    assert client.app.state.services.models.cache.loaded("interrogator") == []
    assert client.post("/tagger/v1/unload-interrogators").json() == "Successfully unload 0 model(s)"


def test_names_of_clients_stand_for_published_files() -> None:
    assert all(name == name.lower() for name in PUBLISHED)
    assert {PUBLISHED[repository] for repository in PUBLISHED.values()} == set(PUBLISHED.values())
