"""YOLOv8 files are read without running anything in them, and find what such a network finds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from latentd_detailer.yolo.detector import Fit, apart, detect_with, fitted, found_in
from latentd_detailer.yolo.files import load_yolo, read_labels
from latentd_detailer.yolo.network import HEAD, Output
from PIL import Image
from safetensors.torch import save_file
from yolo_files import NANO, TINY, save, whole

from latentd.api import ModelLoadError, WorkerContext

CONTEXT = WorkerContext(options={})


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the size and form of YOLOv8n, of random numbers."""
    folder = tmp_path_factory.mktemp("yolo")
    return save(folder / "face_yolov8n.pt", whole(NANO, 2), {0: "face", 1: "hand"})


def reference(model: Any, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes [n,4] and scores [n,c] of the network's own modules, walked by hand through the published layout."""

    def conv(module: Any, values: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.silu(module.bn(module.conv(values)))

    def c2f(module: Any, values: torch.Tensor, add: bool) -> torch.Tensor:
        out = list(conv(module.cv1, values).split(module.c, 1))
        for one in module.m:
            inner = conv(one.cv2, conv(one.cv1, out[-1]))
            out.append(out[-1] + inner if add else inner)
        return conv(module.cv2, torch.cat(out, 1))

    layers, values, kept = model.model, picture, {}
    for number in range(10):
        if number == 9:
            parts = [conv(layers[9].cv1, values)]
            for _ in range(3):
                parts.append(layers[9].m(parts[-1]))
            values = conv(layers[9].cv2, torch.cat(parts, 1))
        elif number in (2, 4, 6, 8):
            values = c2f(layers[number], values, add=True)
        else:
            values = conv(layers[number], values)
        kept[number] = values
    twelve = c2f(layers[12], torch.cat([layers[10](kept[9]), kept[6]], 1), add=False)
    fifteen = c2f(layers[15], torch.cat([layers[13](twelve), kept[4]], 1), add=False)
    eighteen = c2f(layers[18], torch.cat([conv(layers[16], fifteen), twelve], 1), add=False)
    last = c2f(layers[21], torch.cat([conv(layers[19], eighteen), kept[9]], 1), add=False)
    boxes, scores = [], []
    for number, (level, stride) in enumerate(((fifteen, 8), (eighteen, 16), (last, 32))):
        sides, kinds = (
            branch[number][2](conv(branch[number][1], conv(branch[number][0], level))).flatten(2)[0]
            for branch in (layers[22].cv2, layers[22].cv3)
        )
        for cell in range(sides.shape[1]):
            row, column = divmod(cell, level.shape[-1])
            left, top, right, bottom = (
                (sides[16 * side : 16 * side + 16, cell].softmax(0) * torch.arange(16)).sum() for side in range(4)
            )
            x, y = column + 0.5, row + 0.5
            boxes.append(torch.stack((x - left, y - top, x + right, y + bottom)) * stride)
        scores.append(kinds.sigmoid().T)
    return torch.stack(boxes), torch.cat(scores)


def test_a_file_of_its_shape_loads_and_says_what_its_modules_say(nano: Path) -> None:
    assert 5_500_000 < nano.stat().st_size < 7_500_000, "YOLOv8n has 3.2 million weights in half precision"
    network, labels = load_yolo(nano, "cpu")
    assert labels == ("face", "hand")
    picture = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = network(picture)
        boxes, scores = reference(whole(NANO, 2).half().float(), picture)
    assert found.boxes.shape == (64 * 96 // 64 + 64 * 96 // 256 + 64 * 96 // 1024, 4)
    torch.testing.assert_close(found.boxes, boxes, rtol=1e-3, atol=2e-2)
    torch.testing.assert_close(found.scores, scores, rtol=1e-3, atol=1e-4)


def test_weights_alone_are_the_same_network(tmp_path: Path) -> None:
    model = whole(TINY, 3).half()
    save(tmp_path / "whole.pt", whole(TINY, 3), {0: "a"})
    torch.save({"model": model.state_dict(), "names": ["a"]}, tmp_path / "dict.pt")
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    save_file({key: value.clone() for key, value in model.state_dict().items()}, tmp_path / "m.safetensors",
              metadata={"names": '{"0": "a"}'})  # fmt: skip
    picture = torch.rand(1, 3, 32, 32)
    answers = []
    for name in ("whole.pt", "dict.pt", "bare.pth", "m.safetensors"):
        network, labels = load_yolo(tmp_path / name, "cpu")
        assert labels == (("0" if name == "bare.pth" else "a"), "1", "2")
        with torch.inference_mode():
            answers.append(network(picture).boxes)
    assert all(torch.equal(answers[0], other) for other in answers)


def test_a_fused_file_says_the_same(tmp_path: Path) -> None:
    model, weights = whole(TINY, 1), {}
    for name, module in model.named_modules():
        if hasattr(module, "bn"):
            module.bn.running_mean.normal_()
            module.bn.running_var.uniform_(0.5, 2)
            scale = module.bn.weight / (module.bn.running_var + module.bn.eps).sqrt()
            weights[f"{name}.conv.weight"] = (module.conv.weight * scale[:, None, None, None]).detach()
            weights[f"{name}.conv.bias"] = (module.bn.bias - module.bn.running_mean * scale).detach()
    rest = {key: value for key, value in model.state_dict().items() if ".bn." not in key and key not in weights}
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    torch.save({**rest, **weights}, tmp_path / "fused.pt")
    picture = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        plain, fused = (load_yolo(tmp_path / f"{name}.pt", "cpu")[0](picture) for name in ("plain", "fused"))
    torch.testing.assert_close(plain.boxes, fused.boxes, rtol=1e-4, atol=1e-3)


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.target),)


def test_a_hostile_file_does_nothing(tmp_path: Path) -> None:
    model = whole(TINY, 1)
    model.model[0].extra = Evil(tmp_path / "made")
    save(tmp_path / "m.pt", model, {0: "face"})
    with pytest.raises(ModelLoadError, match=r"m\.pt"):
        detect_with(tmp_path / "m.pt", Image.new("RGB", (64, 64)), 0.3, CONTEXT)
    assert not (tmp_path / "made").exists()


def test_the_package_of_the_files_is_never_looked_for(nano: Path, tmp_path: Path) -> None:
    (tmp_path / "ultralytics").mkdir()
    (tmp_path / "ultralytics/__init__.py").write_text("raise SystemExit('it was imported')")
    code = f"import pathlib, latentd_detailer.yolo.files as f; f.load_yolo(pathlib.Path({str(nano)!r}), 'cpu')"
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert done.returncode == 0


def broken(change: Any) -> dict[str, torch.Tensor]:
    weights = dict(whole(TINY, 1).state_dict())
    change(weights)
    return weights


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.pop(f"model.{HEAD}.dfl.conv.weight"),
        lambda w: w.pop("model.0.bn.running_var"),
        lambda w: w.update({"model.0.conv.weight": torch.zeros(4, 3, 7, 7)}),
        lambda w: w.update({"model.0.conv.weight": torch.zeros(4000, 3, 3, 3)}),
        lambda w: w.update({"model.0.conv.weight": torch.zeros(3)}),
        lambda w: w.update({"model.1.conv.weight": torch.zeros(8, 5, 3, 3)}),
        lambda w: w.update({"model.23.cv2.weight": torch.zeros(3)}),
        lambda w: w.update({f"model.{HEAD}.cv3.1.2.weight": torch.zeros(7, 8, 1, 1)}),
        lambda w: w.clear(),
    ],
)
def test_another_network_is_refused_in_words(tmp_path: Path, change: Any) -> None:
    torch.save(broken(change), tmp_path / "m.pt")
    with pytest.raises(ModelLoadError, match=r"m\.pt is no YOLOv8 detector"):
        detect_with(tmp_path / "m.pt", Image.new("RGB", (64, 64)), 0.3, CONTEXT)


@pytest.mark.parametrize("size", [(512, 256), (300, 500), (1300, 640), (33, 900), (640, 640), (1, 1)])
def test_a_picture_is_fitted_and_its_boxes_found_again(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (255, 0, 0))
    picture, fit = fitted(image, None)
    assert picture.shape[-1] % 32 == picture.shape[-2] % 32 == 0
    assert max(fit.width, fit.height) == 640
    inside = torch.zeros(picture.shape[-2:], dtype=torch.bool)
    inside[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width] = True
    expected = torch.where(inside, 1.0, 114 / 255)
    torch.testing.assert_close(picture[0, 0], expected)
    left, top = fit.left + fit.width * 0.25, fit.top + fit.height * 0.5
    boxes = torch.tensor([[left, top, fit.left + fit.width * 2.0, fit.top + fit.height * 0.75]])
    (found,) = found_in(Output(boxes, torch.tensor([[0.9]])), ("x",), fit, size, 0.3)
    edges = (size[0] * 0.25, size[1] * 0.5, size[0], size[1] * 0.75)
    assert np.abs(np.array(found.box) - edges).max() < max(size) * 0.02 + 1
    assert (found.label, found.mask) == ("x", None)


def test_of_overlapping_boxes_of_a_class_the_surest_stays() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [0, 0, 10, 5], [20, 20, 30, 30]])
    scores = torch.tensor([[0.6, 0.1], [0.9, 0.1], [0.1, 0.8], [0.7, 0.0], [0.2, 0.2]])
    found = found_in(Output(boxes, scores), ("a", "b"), Fit(1, 0, 0, 64, 64), (64, 64), 0.3)
    assert [(one.label, round(one.score, 1), one.box[3]) for one in found] == [
        ("a", 0.9, 9),
        ("b", 0.8, 9),
        ("a", 0.7, 5),
    ]
    assert apart(boxes[:0], torch.zeros(0)).tolist() == []
    whole_numbers = torch.full((1, 4), float("nan"))
    assert found_in(Output(whole_numbers, scores[:1]), ("a",), Fit(1, 0, 0, 64, 64), (64, 64), 0.3) == []


def test_masks_are_cut_at_their_boxes_and_lie_where_the_thing_is() -> None:
    """A prototype that is positive on the left half of a picture of 64x32, which lies in the middle of 64x64."""
    prototypes = torch.zeros(32, 16, 16)
    prototypes[0, :, :8], prototypes[0, :, 8:] = 5, -5
    coefficients = torch.zeros(2, 32)
    coefficients[0, 0], coefficients[1, 0] = 1, -1
    boxes = torch.tensor([[8.0, 16, 64, 48], [0, 24, 64, 48]])
    output = Output(boxes, torch.tensor([[0.9], [0.8]]), coefficients, prototypes)
    fit = Fit(0.5, 0, 16, 64, 32)
    first, second = found_in(output, ("x",), fit, (128, 64), 0.3)
    assert first.mask is not None
    assert second.mask is not None
    shape = np.asarray(first.mask) > 0
    assert shape.shape == (64, 128)
    rows, columns = np.nonzero(shape)
    assert (columns.min(), columns.max()) == (pytest.approx(16, abs=4), pytest.approx(63, abs=4))
    assert (rows.min(), rows.max()) == (pytest.approx(0, abs=4), pytest.approx(63, abs=4))
    rows, columns = np.nonzero(np.asarray(second.mask) > 0)
    assert columns.min() == pytest.approx(64, abs=4)
    assert rows.min() == pytest.approx(16, abs=4)


def test_a_segmenting_file_gives_masks(tmp_path: Path) -> None:
    model = whole(TINY, 1, segments=True, seed=4)
    model.model[HEAD].cv3[0][2].bias.data.fill_(3)
    path = save(tmp_path / "person-seg.pt", model, {0: "person"})
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8))
    found = detect_with(path, image, 0.5, CONTEXT)
    assert found
    assert all(one.mask is not None and one.mask.size == image.size for one in found)


# --- ONNX ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def write_onnx(tmp_path: Path) -> Any:
    """Writes an ONNX file whose answer is always these boxes (centre, size and scores)."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kinds = onnx.helper, onnx.TensorProto

    def write(rows: list[list[float]], names: str | None = "{0: 'face'}", size: Any = (64, 64)) -> Path:
        table = np.array(rows, np.float32).T[None]
        given = helper.make_tensor_value_info("images", kinds.FLOAT, [1, 3, *size])
        answer = helper.make_tensor_value_info("output0", kinds.FLOAT, list(table.shape))
        nodes = [
            helper.make_node("ReduceMin", ["images"], ["low"], keepdims=0),
            helper.make_node("Mul", ["low", "zero"], ["nothing"]),
            helper.make_node("Add", ["table", "nothing"], ["output0"]),
        ]
        constants = [
            helper.make_tensor("table", kinds.FLOAT, table.shape, table.flatten().tolist()),
            helper.make_tensor("zero", kinds.FLOAT, [], [0.0]),
        ]
        graph = helper.make_graph(nodes, "yolo", [given], [answer], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8
        if names is not None:
            helper.set_model_props(model, {"names": names})
        path = tmp_path / "m.onnx"
        onnx.save(model, str(path))
        return path

    return write


@pytest.mark.parametrize("names", ["{0: 'face'}", None])
def test_an_onnx_file_finds_what_it_says(write_onnx: Any, names: str | None) -> None:
    path = write_onnx([[32, 32, 16, 8, 0.9], [10, 40, 8, 8, 0.2]], names)
    (found,) = detect_with(path, Image.new("RGB", (128, 128)), 0.3, CONTEXT)
    assert found.box == pytest.approx((48, 56, 80, 72))
    assert found.label == ("face" if names else "0")


@pytest.mark.parametrize(
    ("rows", "names", "size", "words"),
    [
        ([[1, 2, 3, 4, 0.5, 0.5, 0.5]], "{0: 'face'}", (64, 64), "answers"),
        ([[1, 2, 3, 4, 0.5]], "{0: 'a', 1: 'b'}", (64, 64), "answers"),
        ([[1, 2, 3, 4, 0.5]], "{0: 'a'}", (100000, 64), "takes pictures of 64x100000"),
    ],
)
def test_an_onnx_file_of_another_form_is_refused(write_onnx: Any, rows: Any, names: str, size: Any, words: str) -> None:
    with pytest.raises(ModelLoadError, match=words):
        detect_with(write_onnx(rows, names, size), Image.new("RGB", (64, 64)), 0.3, CONTEXT)


def test_an_onnx_file_that_is_none_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08nonsense")
    with pytest.raises(ModelLoadError, match=r"m\.onnx cannot be loaded"):
        detect_with(tmp_path / "m.onnx", Image.new("RGB", (64, 64)), 0.3, CONTEXT)


@pytest.mark.parametrize("text", [None, "", "nonsense(", "[" * 5000, "__import__('os').mkdir('x')", "7", "{0: {1: 2}}"])
def test_names_are_read_from_anything(text: str | None) -> None:
    assert all(isinstance(name, str) for name in read_labels(text).values())
