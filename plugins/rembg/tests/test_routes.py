"""The routes, with networks of a few numbers: their mask is how red a pixel is."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import latentd_rembg
import numpy as np
import pytest
from latentd_rembg.networks import KINDS, normalised, stretched
from PIL import Image

from latentd.api import ModelLoadError
from latentd.testing import AppFactory

onnx = pytest.importorskip("onnx")


def write_network(path: Path, channels: Sequence[Sequence[float]] = ((1, -0.5, -0.5),), side: int | str = 16) -> None:
    """A network [1,3,side,side] → [1,channels,side,side]: each channel is a weighted sum of R, G and B."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.array(channels, np.float32).reshape(len(channels), 3, 1, 1)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["picture", "weights"], ["mask"])],
        "u2net",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, len(channels), side, side])],
        [numpy_helper.from_array(weights, "weights")],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(path))


def scene(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """The right half red, the left half blue."""
    picture = Image.new("RGB", size, (0, 0, 255))
    picture.paste((255, 0, 0), (size[0] // 2, 0, *size))
    return picture


def as_text(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def folder(latentd_app: AppFactory) -> Path:
    """``models/u2net`` with the network u2net."""
    path = latentd_app.data_dir / "models/u2net"
    write_network(path / "u2net.onnx")
    return path


def remove(client: Any, route: str = "/rembg", image: Image.Image | None = None, **fields: Any) -> Image.Image:
    answer = client.post(route, json={"input_image": as_text(image or scene())} | fields)
    assert answer.status_code == 200, answer.text
    picture = Image.open(io.BytesIO(base64.b64decode(answer.json()["image"])))
    assert picture.format == "PNG"
    return picture


@pytest.mark.parametrize("route", ["/rembg", "/sdapi/v1/rembg"])
def test_the_background_becomes_transparent(latentd_app: AppFactory, folder: Path, route: str) -> None:
    cut = remove(latentd_app([latentd_rembg]), route)
    assert (cut.mode, cut.size) == ("RGBA", (64, 48))
    assert cut.getpixel((60, 20)) == (255, 0, 0, 255)
    assert cut.getpixel((4, 20)) == (0, 0, 0, 0)
    # Between, each channel is in proportion to the mask, as rembg composes it.
    pixels = np.asarray(cut)[20].astype(int)
    edge = pixels[(pixels[:, 3] > 0) & (pixels[:, 3] < 255)]
    assert len(edge)
    assert (edge[:, :3].max(axis=1) <= edge[:, 3] + 1).all()


def test_the_mask_alone(latentd_app: AppFactory, folder: Path) -> None:
    mask = remove(latentd_app([latentd_rembg]), return_mask=True, alpha_matting=True)
    assert (mask.mode, mask.size) == ("L", (64, 48))
    assert (mask.getpixel((60, 20)), mask.getpixel((4, 20))) == (255, 0)


def test_png_whatever_format_the_pictures_have(latentd_app: AppFactory, folder: Path) -> None:
    client = latentd_app([latentd_rembg])
    client.post("/sdapi/v1/options", json={"samples_format": "jpg"})
    assert remove(client).mode == "RGBA"


def test_transparent_parts_stay_so(latentd_app: AppFactory, folder: Path) -> None:
    picture = scene().convert("RGBA")
    picture.putalpha(100)
    assert remove(latentd_app([latentd_rembg]), image=picture).getpixel((60, 20))[3] == 100


def test_alpha_matting_gives_the_edge_the_foregrounds_colour(latentd_app: AppFactory, folder: Path) -> None:
    """The scene is red over blue, blurred: by the mask the edge is purple, by matting red of another opacity."""
    columns = np.clip((np.arange(64) - 24) / 16, 0, 1)
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[..., 0], picture[..., 2] = columns * 255, (1 - columns) * 255
    client = latentd_app([latentd_rembg])
    fields = {"alpha_matting_foreground_threshold": 250, "alpha_matting_background_threshold": 5}
    matted = np.asarray(
        remove(client, image=Image.fromarray(picture), alpha_matting=True, alpha_matting_erode_size=3, **fields)
    )[24].astype(int)
    middle = (columns > 0.3) & (columns < 0.95)
    assert np.abs(matted[:, 3] - columns * 255).max() < 20
    assert matted[middle, 2].max() < 40
    assert matted[middle, 0].min() > 215


def test_matting_without_anything_sure_is_told(latentd_app: AppFactory, folder: Path) -> None:
    client = latentd_app([latentd_rembg])
    body = {"input_image": as_text(scene()), "alpha_matting": True, "alpha_matting_erode_size": 100, "post": 1}
    answer = client.post("/rembg", json=body).json()
    assert [text.partition(" ")[0] for text in answer["warnings"]] == ["field", "alpha_matting"]
    assert answer["image"] == client.post("/rembg", json={"input_image": as_text(scene())}).json()["image"]


def test_clothes_are_three_masks_under_one_another(latentd_app: AppFactory, folder: Path) -> None:
    write_network(folder / "u2net_cloth_seg.onnx", [(0, 1, 0), (1, 0, 0), (0, 0, 1), (-1, -1, -1)])
    client = latentd_app([latentd_rembg])
    cut = remove(client, model="u2net_cloth_seg")
    assert cut.size == (64, 144)
    assert [cut.getpixel((60, y))[3] for y in (20, 68, 116)] == [255, 0, 0]
    assert [cut.getpixel((4, y))[3] for y in (20, 68, 116)] == [0, 255, 0]
    assert remove(client, model="u2net_cloth_seg", return_mask=True).size == (64, 144)


def test_missing_weights_unknown_names_and_no_model(latentd_app: AppFactory, folder: Path) -> None:
    client = latentd_app([latentd_rembg])

    def refused(**fields: Any) -> Any:
        answer = client.post("/rembg", json={"input_image": as_text(scene())} | fields)
        return answer.status_code, answer.json()

    status, body = refused(model="isnet-anime")
    assert (status, body["detail"]) == (
        422,
        f"model 'isnet-anime' has no weights: isnet-anime.onnx is missing in {folder}",
    )
    status, body = refused(model="u2nett")
    assert (status, body["hint"][:21]) == (422, "did you mean 'u2net' ")
    assert refused(model="../u2net")[0] == 422
    assert refused(input_image="")[0] == 422
    for field, value in (
        *(("alpha_matting_foreground_threshold", value) for value in (-1, 256, "x")),
        *(("alpha_matting_erode_size", value) for value in (-1, 100_000)),
        ("return_mask", "perhaps"),
    ):
        status, body = refused(**{field: value})
        assert (status, body["detail"][0]["loc"]) == (422, ["body", field])
    for name in ("None", ""):
        assert client.post("/rembg", json={"model": name}).json() is None
        assert client.post("/sdapi/v1/rembg", json={"model": name}).json() == {}


def test_files_of_other_kinds_are_told(latentd_app: AppFactory, folder: Path) -> None:
    client = latentd_app([latentd_rembg])
    write_network(folder / "u2net_cloth_seg.onnx")
    (folder / "silueta.onnx").write_bytes(b"nothing")
    for model, words in (
        ("u2net_cloth_seg", "u2net_cloth_seg gives 1 channels, not 4"),
        ("silueta", "silueta.onnx cannot be loaded as an ONNX network"),
    ):
        answer = client.post("/rembg", json={"input_image": as_text(scene()), "model": model})
        assert answer.status_code == 422
        assert words in answer.json()["detail"]


def test_pictures_over_the_bounds(latentd_app: AppFactory, folder: Path) -> None:
    client = latentd_app([latentd_rembg])
    large = as_text(Image.new("RGB", (2100, 2000)))
    answer = client.post("/rembg", json={"input_image": large, "alpha_matting": True})
    assert (answer.status_code, answer.json()["detail"]) == (413, "alpha_matting takes pictures of up to 4 megapixels")


def test_pictures_are_normalised_as_rembg_does() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, 0] = (128, 64, 32)
    given = normalised(Image.fromarray(pixels), (4, 4), KINDS["u2net"].deviation)
    assert given.shape == (1, 3, 4, 4)
    assert given[0, :, 0, 0] == pytest.approx([(1 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.25 - 0.406) / 0.225])
    assert normalised(Image.fromarray(pixels), (4, 4), KINDS["isnet-anime"].deviation)[0, 0, 0, 0] == pytest.approx(
        0.515
    )


def test_masks_are_stretched() -> None:
    assert stretched(np.array([[-2.0, 0.0, 2.0]], np.float32)).tolist() == [[0, 127, 255]]
    assert stretched(np.full((2, 2), 7.0, np.float32)).max() == 0
    with pytest.raises(ModelLoadError):
        stretched(np.array([[np.nan, 1]], np.float32))
    logits = np.array([[-1000.0, 0.0, 1000.0]], np.float32)
    assert stretched(KINDS["birefnet-general"].activation(logits)).tolist() == [[0, 127, 255]]


@pytest.mark.parametrize(("model", "side"), [("u2netp", 320), ("isnet-general-use", 1024)])
def test_a_file_that_leaves_the_size_open_gets_the_published_one(
    latentd_app: AppFactory, folder: Path, model: str, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    write_network(folder / f"{model}.onnx", side="side")
    monkeypatch.setattr(
        "latentd_rembg.networks.normalised",
        lambda image, size, deviation: sizes.append(size) or normalised(image, size, deviation),
    )
    remove(latentd_app([latentd_rembg]), model=model)
    assert sizes == [(side, side)]
