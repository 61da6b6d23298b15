"""The original's routes, the lists in which clients look for it, and a job that is watched and stopped."""

from __future__ import annotations

import base64
import io
import threading
import time
from typing import Any

import numpy as np
from detailer_requests import BODY, WIDTH, png
from latentd_detailer.infotext import VERSION
from PIL import Image


def test_the_routes_answer_as_the_originals(server: Any, factory: Any) -> None:
    assert server.get("/adetailer/v1/version").json() == {"version": VERSION}
    schema = server.get("/adetailer/v1/schema").json()
    assert list(schema["properties"])[:3] == ["ad_model", "ad_model_classes", "ad_tab_enable"]
    assert schema["properties"]["ad_confidence"]["default"] == 0.3
    assert server.get("/adetailer/v1/ad_model").json() == {"ad_model": ["face_mtcnn"]}
    folder = factory.data_dir / "models/adetailer/more"
    folder.mkdir(parents=True)
    for name in ("hand.pt", "a.onnx", "notes.txt", ".hidden.pt"):
        (folder / name).touch()
    assert server.get("/adetailer/v1/ad_model").json() == {"ad_model": ["a.onnx", "hand.pt", "face_mtcnn"]}
    for path in folder.iterdir():
        path.unlink()


def test_it_stands_in_the_lists_that_clients_read(server: Any) -> None:
    listed = server.get("/sdapi/v1/scripts").json()
    assert all("adetailer" in listed[mode] for mode in ("txt2img", "img2img"))
    (row,) = [
        row
        for row in server.get("/sdapi/v1/script-info").json()
        if row["name"] == "adetailer" and not row["is_img2img"]
    ]
    assert [arg["label"] for arg in row["args"][:2]] == ["Enable ADetailer", "Skip img2img"]
    assert row["args"][2]["value"]["ad_denoising_strength"] == 0.4
    assert "ad_model" in row["args"][5]["value"]


def test_progress_counts_each_region_and_an_interrupt_leaves_the_others(server: Any, photo: Any) -> None:
    unit = {"ad_model": "face_mtcnn", "ad_use_steps": True, "ad_steps": 60, "ad_denoising_strength": 1.0}
    body = {**BODY, "init_images": [png(photo)], "alwayson_scripts": {"ADetailer": {"args": [True, True, unit]}}}
    options = {"live_previews_enable": True, "show_progress_every_n_steps": 1, "show_progress_type": "Approx cheap",
               "ad_bbox_sortby": "Position (left to right)"}  # fmt: skip
    replies: list[Any] = []
    thread = threading.Thread(
        target=lambda: replies.append(server.post("/sdapi/v1/img2img", json={**body, "override_settings": options}))
    )
    thread.start()
    seen: list[dict[str, Any]] = []
    pictures = set()
    deadline = time.monotonic() + 120
    while thread.is_alive() and time.monotonic() < deadline:
        state = server.get("/sdapi/v1/progress").json()
        if state["state"]["job"].startswith("ADetailer"):
            seen.append(state["state"])
            pictures.add(state["current_image"])
            if len(pictures - {None}) > 1:
                server.post("/sdapi/v1/interrupt")
        time.sleep(0.02)
    thread.join()
    assert {state["job_count"] for state in seen} <= {2, 3}
    assert any(state["sampling_steps"] > 2 for state in seen), "the region's own steps are told"
    assert len(pictures - {None}) > 1, "its previews are shown"
    assert replies[0].status_code == 200
    (text,) = replies[0].json()["images"]
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
    before = np.asarray(photo)
    assert np.array_equal(found[:, WIDTH // 2 + 16 :], before[:, WIDTH // 2 + 16 :]), "the second face was not begun"
    assert not np.array_equal(found, before), "the first is as far as it came"
