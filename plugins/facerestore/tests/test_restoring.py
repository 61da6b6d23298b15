"""Through the server: lists, refusals, and a picture whose faces come back restored."""

from __future__ import annotations

import base64
import io
import subprocess
import sys

import latentd_facerestore
import numpy as np
import pytest
from latentd_facerestore.restorers import RESTORERS, find_weights
from latentd_facerestore.restoring import restore_faces
from PIL import Image

from latentd.api import WorkerContext, install_hint
from latentd.testing import HeadlessServices, check_hooks

GFPGAN = next(kind for kind in RESTORERS if kind.name == "GFPGAN")
EXTRAS = "/sdapi/v1/extra-single-image"


def encoded(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def decoded(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")).astype(int)


def only_the_faces_changed(before: np.ndarray, after: np.ndarray, faces, colour) -> None:
    """Inside every face is ``colour``; beyond the pasted square, from every nose, nothing is touched."""
    rows, columns = np.mgrid[: before.shape[0], : before.shape[1]]
    untouched = np.ones(before.shape[:2], dtype=bool)
    for points in faces:
        eyes = np.linalg.norm(points[0] - points[1])
        away = np.hypot(columns - points[2][0], rows - points[2][1])
        untouched &= away > 3.3 * eyes
        assert np.abs(after[away < eyes] - colour(before[away < eyes])).max() <= 2
    assert (after[untouched] == before[untouched]).all()
    assert untouched.mean() > 0.7


def test_the_host_takes_it_in_and_no_torch_comes_with_it():
    assert check_hooks(latentd_facerestore).problems() == {}
    code = "import sys, latentd_facerestore; sys.exit(any(m in sys.modules for m in ('torch', 'spandrel', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_restorers_are_listed_as_the_original_does(latentd_app):
    client = latentd_app(plugins=[latentd_facerestore])
    assert client.get("/sdapi/v1/face-restorers").json() == [
        {"name": "CodeFormer", "cmd_dir": None},
        {"name": "GFPGAN", "cmd_dir": None},
    ]


def test_faces_of_a_photograph_are_restored_where_they_are(latentd_app, two_faces, write_restorer, green):
    client = latentd_app(plugins=[latentd_facerestore])
    write_restorer(latentd_app.data_dir / "models" / "GFPGAN" / "GFPGANv1.4.safetensors")
    body = {"image": encoded(two_faces.image), "gfpgan_visibility": 0.5}
    reply = client.post(EXTRAS, json=body)
    assert reply.status_code == 200, reply.text
    assert reply.json()["html_info"] == "<p>GFPGAN visibility: 0.5</p>"
    before = np.asarray(two_faces.image).astype(int)
    half = decoded(reply.json()["image"])
    only_the_faces_changed(before, half, two_faces.landmarks, lambda pixels: (pixels + green) / 2)


def test_a_restorer_is_run_without_a_server(two_faces, tmp_path, write_restorer, green):
    write_restorer(tmp_path / "face.safetensors")
    context = WorkerContext(options={"face_restoration_unload": True})
    restored = restore_faces(two_faces.image, tmp_path / "face.safetensors", context, weight=None)
    before, after = (np.asarray(image).astype(int) for image in (two_faces.image, restored))
    only_the_faces_changed(before, after, two_faces.landmarks, lambda pixels: np.broadcast_to(green, pixels.shape))


def test_a_picture_without_faces_is_returned_and_no_weights_are_read(tmp_path):
    image = Image.new("RGB", (320, 200), "white")
    context = WorkerContext(options={"face_restoration_unload": False})
    assert restore_faces(image, tmp_path / "missing.pth", context, weight=None).tobytes() == image.tobytes()


def test_without_weights_the_file_and_its_folder_are_named(latentd_app):
    client = latentd_app(plugins=[latentd_facerestore])
    body = {"image": encoded(Image.new("RGB", (64, 64))), "gfpgan_visibility": 1}
    reply = client.post(EXTRAS, json=body)
    assert reply.status_code == 422
    folder = latentd_app.data_dir / "models" / "GFPGAN"
    assert f"'GFPGAN' has no weights: GFPGANv1.4.pth is missing in {folder}" in reply.text
    assert "nothing is downloaded" in reply.json()["hint"]


def test_codeformer_says_what_its_licence_is(latentd_app, monkeypatch):
    monkeypatch.setattr("latentd_facerestore.restorers.find_spec", lambda name: None)
    client = latentd_app(plugins=[latentd_facerestore])
    body = {"image": encoded(Image.new("RGB", (64, 64))), "codeformer_visibility": 1}
    reply = client.post(EXTRAS, json=body)
    assert reply.status_code == 422
    assert "plugins/facerestore[codeformer]" in reply.json()["hint"]
    assert "licence forbids commercial use" in reply.json()["hint"]


def test_without_the_plugin_the_package_is_named(latentd_app):
    client = latentd_app()
    assert client.get("/sdapi/v1/face-restorers").json() == []
    reply = client.post(EXTRAS, json={"image": encoded(Image.new("RGB", (64, 64))), "gfpgan_visibility": 1})
    assert reply.status_code == 422
    assert reply.json()["detail"] == "Face restorer 'GFPGAN' not found"
    assert reply.json()["hint"] == install_hint("facerestore")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["GFPGANv1.3.pth", "GFPGANv1.4.pth", "other.pth"], "GFPGANv1.4.pth"),
        (["GFPGANv1.2.pth", "gfpgan-new.safetensors"], "gfpgan-new.safetensors"),
        (["below/GFPGANv1.4.pth"], "GFPGANv1.4.pth"),
    ],
)
def test_which_weights_are_taken(tmp_path, monkeypatch, files, found):
    monkeypatch.chdir(tmp_path)
    for name in files:
        path = tmp_path / "models" / "GFPGAN" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert find_weights(GFPGAN, HeadlessServices()).name == found
