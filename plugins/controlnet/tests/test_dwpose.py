"""DWPose's decoding, on ONNX networks that answer what is written into them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from control_requests import pixels, png
from PIL import Image

onnx = pytest.importorskip("onnx")


def constant(path: Path, sides: tuple[int, int], **answers: np.ndarray) -> None:
    """A network for pictures of ``sides`` whose ``answers`` depend on no picture."""
    from onnx import TensorProto, helper, numpy_helper

    initial = [numpy_helper.from_array(np.zeros((), np.float32), "nothing")]
    nodes = [helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
             helper.make_node("Mul", ["mean", "nothing"], ["zero"])]  # fmt: skip
    outputs = []
    for name, answer in answers.items():
        initial.append(numpy_helper.from_array(answer.astype(np.float32), f"{name}_is"))
        nodes.append(helper.make_node("Add", [f"{name}_is", "zero"], [name]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, answer.shape))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, *sides])]
    graph = helper.make_graph(nodes, "constant", inputs, outputs, initial)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def boxes(*found: tuple[int, int, float, float, int, float]) -> np.ndarray:
    """YOLOX' answer with boxes (column and row of a cell of 8, width and height in the square, class, score)."""
    answer = np.zeros((1, 8400, 85), np.float32)
    for column, row, width, height, kind, score in found:
        answer[0, row * 80 + column, :5] = 0.5, 0.5, math.log(width / 8), math.log(height / 8), 1.0
        answer[0, row * 80 + column, 5 + kind] = score
    return answer


@pytest.fixture
def folder(server: Any, tmp_path: Path) -> Iterator[Path]:
    server.post("/sdapi/v1/options", json={"control_net_modules_path": str(tmp_path)})
    yield tmp_path
    server.post("/sdapi/v1/options", json={"control_net_modules_path": ""})
    server.app.state.services.models.cache.drop("annotator")


@pytest.fixture
def joints(folder: Path) -> None:
    """All joints sure and in the middle, but the shoulders in opposite corners and no right hand."""
    across, down = np.zeros((1, 133, 576)), np.zeros((1, 133, 768))
    across[0, :, 288] = down[0, :, 384] = 0.9
    across[0, 5:7], down[0, 5:7] = 0, 0
    across[0, 5, 0] = down[0, 5, 0] = across[0, 6, 480] = down[0, 6, 640] = 0.8
    across[0, 112:] = 0.1
    constant(folder / "dw-ll_ucoco_384.onnx", (384, 288), simcc_x=across, simcc_y=down)


def detect(server: Any) -> Any:
    photo = png(Image.effect_noise((64, 64), 60).convert("RGB"))
    body = {"controlnet_module": "dw_openpose_full", "controlnet_input_images": [photo], "controlnet_processor_res": 64}
    return server.post("/controlnet/detect", json=body)


def test_joints_are_where_the_networks_say(server: Any, generate: Any, folder: Path, joints: None) -> None:
    # The picture is enlarged tenfold into the square: a box of 8 x 12.8 around (16.4, 24.4), widened to 12 x 16; a
    # second one nearly as it, and a cat, are not counted.
    found = [(20, 30, 80, 128, 0, 0.9), (21, 30, 80, 128, 0, 0.6), (60, 60, 80, 80, 15, 0.9)]
    constant(folder / "yolox_l.onnx", (640, 640), output=boxes(*found))
    reply = detect(server)
    assert reply.status_code == 200, reply.text
    (pose,) = reply.json()["poses"]
    (person,) = pose["people"]
    body = np.array(person["pose_keypoints_2d"]).reshape(18, 3)
    assert body[0] == pytest.approx([16.4, 24.4, 1], abs=0.01)
    left, right = (16.4 - 6, 24.4 - 8), (16.4 - 6 + 240 / 288 * 12, 24.4 - 8 + 320 / 384 * 16)
    assert body[5, :2] == pytest.approx(left, abs=0.01)
    assert body[2, :2] == pytest.approx(right, abs=0.01)
    assert body[1, :2] == pytest.approx(np.mean([left, right], axis=0), abs=0.01), "the neck"
    assert len(person["face_keypoints_2d"]) == 70 * 3
    assert len(person["hand_left_keypoints_2d"]) == 21 * 3
    assert person["hand_right_keypoints_2d"] is None
    assert pixels(reply.json()["images"][0]).any()
    unit = {"model": "net", "module": "dw_openpose_full", "image": png(Image.new("RGB", (64, 64))), "processor_res": 64}
    assert pixels(generate(unit, steps=1)["images"][1]).any()


def test_nobody_and_nothing(server: Any, folder: Path, joints: None) -> None:
    constant(folder / "yolox_l.onnx", (640, 640), output=boxes())
    reply = detect(server)
    assert reply.json()["poses"][0]["people"] == []
    assert not pixels(reply.json()["images"][0]).any()
    constant(folder / "yolox_l.onnx", (640, 640), output=boxes((20, 30, 80, 128, 15, 0.9)))
    (person,) = detect(server).json()["poses"][0]["people"]
    assert person["pose_keypoints_2d"][:2] == pytest.approx([32, 32], abs=0.01), "something, so the whole picture"


def test_a_file_that_is_no_network(server: Any, folder: Path, joints: None) -> None:
    assert "lacks its weights yolox_l.onnx" in detect(server).json()["detail"]
    (folder / "yolox_l.onnx").write_bytes(b"no network")
    reply = detect(server)
    assert reply.status_code == 422, reply.text
    assert "yolox_l.onnx is no ONNX network" in reply.json()["detail"]
