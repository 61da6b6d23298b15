"""The interrogator "deepdanbooru": how tags are written, and the two kinds of networks behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import latentd_interrogators
import numpy as np
import pytest
import torch
from interrogation import as_text, plain
from latentd_interrogators.deepdanbooru import format_tags
from latentd_interrogators.loading import device_for
from latentd_interrogators.resnet import CONVOLUTIONS, load_resnet

from latentd.api import ModelLoadError, WorkerContext
from latentd.options import OptionStore
from latentd.settings import Settings
from latentd.testing import AppFactory, HeadlessServices

SCORES = {"1girl": 0.91, "blue_eyes": 0.5, "cat_(animal)": 0.99, "back\\slash": 0.6, "dim": 0.49, "rating:safe": 0.9}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, r"1girl, back\\slash, blue eyes, cat \(animal\)"),
        ({"deepbooru_sort_alpha": False}, r"cat \(animal\), 1girl, back\\slash, blue eyes"),
        ({"deepbooru_use_spaces": False, "deepbooru_escape": False}, "1girl, back\\slash, blue_eyes, cat_(animal)"),
        ({"deepbooru_filter_tags": "blue eyes, 1girl"}, r"back\\slash, cat \(animal\)"),
        ({"interrogate_deepbooru_score_threshold": 0.9}, r"1girl, cat \(animal\)"),
        (
            {"interrogate_return_ranks": True, "interrogate_deepbooru_score_threshold": 0.9},
            r"(1girl:0.910), (cat \(animal\):0.990)",
        ),
    ],
)
def test_tags_are_written_as_the_options_say(options: dict[str, Any], text: str) -> None:
    assert format_tags(SCORES, OptionStore().snapshot(options)) == text


def test_a_wd_tagger_sees_bgr_and_its_ratings_are_dropped(latentd_app: AppFactory) -> None:
    folder = latentd_app.data_dir / "models/WD14/wd-tiny"
    write_onnx(folder, gain=1.0)
    (folder / "selected_tags.csv").write_text(
        "tag_id,name,category,count\n1,general,9,5\n2,very_blue,0,5\n3,very_green,4,5\n4,very_red,0,5\n"
    )
    client = latentd_app([latentd_interrogators])
    square = (30, 30)
    for colour, tag in (("red", "very red"), ("blue", "very blue"), ("lime", "very green")):
        assert tags(client, as_text(plain(colour, square)), "deepbooru") == tag
    # A white border makes a square of what is none, so that every colour is in it.
    assert tags(client, as_text(plain("red", (30, 10)))) == "very blue, very green, very red"


def test_deepdanbooru_as_onnx_takes_its_labels_from_a_text_file(latentd_app: AppFactory) -> None:
    folder = latentd_app.data_dir / "models/WD14"
    write_onnx(folder, gain=255.0)
    (folder / "tags.txt").write_text("rating:safe\nred_tag\ngreen_tag\nblue_tag\n")
    client = latentd_app([latentd_interrogators])
    assert tags(client, as_text(plain("red", (30, 10)))) == "red tag"


def test_automatic1111s_torch_file_is_preferred(latentd_app: AppFactory) -> None:
    write_onnx(latentd_app.data_dir / "models/WD14", gain=255.0)
    (latentd_app.data_dir / "models/WD14/tags.txt").write_text("a\nb\nc\nd\n")
    folder = latentd_app.data_dir / "models/torch_deepdanbooru"
    folder.mkdir(parents=True)
    torch.save(red_network(), folder / "model-resnet_custom_v3.pt")
    client = latentd_app([latentd_interrogators])
    client.post("/sdapi/v1/options", json={"interrogate_return_ranks": True})
    red = 1 / (1 + np.exp(-200 / 255))
    assert tags(client, as_text(plain("#c80000", (64, 64)))) == f"(red:{red:.3f}), (unmoved:0.500)"
    services = client.app.state.services
    assert services.models.cache.loaded("interrogator") == []


def test_the_residual_network_has_its_shortcuts_where_the_file_has_them(tmp_path: Path) -> None:
    # In the stage that only halves, the shortcut comes after the bottleneck: with the two exchanged the red is lost.
    network = red_network()
    assert CONVOLUTIONS == 179
    network["n_Conv_97.weight"], network["n_Conv_100.weight"] = (
        network["n_Conv_100.weight"],
        network["n_Conv_97.weight"],
    )
    torch.save(network, tmp_path / "swapped.pt")
    scores = load_resnet(tmp_path / "swapped.pt", "cpu").scores(plain("red", (64, 64)))
    assert scores["red"] == pytest.approx(0.5)


def test_a_strided_convolution_is_padded_at_the_end_only(tmp_path: Path) -> None:
    network = red_network()
    # The first strided bottleneck takes its shortcut's place, and looks at the pixel below and right of the next.
    network["n_Conv_11.weight"].zero_()
    network["n_Conv_12.weight"][0, 0] = network["n_Conv_14.weight"][0, 0] = 1
    network["n_Conv_13.weight"][0, 0, 2, 2] = 1
    torch.save(network, tmp_path / "shifted.pt")
    scores = load_resnet(tmp_path / "shifted.pt", "cpu").scores(plain("red", (64, 64)))
    # Of 64 rows and columns the last looks at the padding; later stages take each eighth, from the first on.
    assert scores["red"] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-6)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"tags": ["a"], "n_Conv_0.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ModelLoadError, match=r"other.pt is not DeepDanbooru's network"):
        load_resnet(tmp_path / "other.pt", "cpu")


def test_missing_weights_are_named_with_both_folders(latentd_app: AppFactory) -> None:
    client = latentd_app([latentd_interrogators])
    answer = client.post("/sdapi/v1/interrogate", json={"image": as_text(plain("red")), "model": "deepdanbooru"})
    assert answer.status_code == 422
    models = latentd_app.data_dir / "models"
    assert "model-resnet_custom_v3.pt" in answer.json()["detail"]
    assert all(str(models / name) in answer.json()["detail"] for name in ("torch_deepdanbooru", "WD14"))


def tags(client: Any, picture: str, model: str = "deepdanbooru") -> str:
    """The tags of ``picture``."""
    answer = client.post("/sdapi/v1/interrogate", json={"image": picture, "model": model})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["caption"])


def write_onnx(folder: Path, gain: float) -> None:
    """A tagger [1,8,8,3] → [1,4] whose last three scores tell whether a channel's mean is over 40 of 255.

    :param gain: what turns its input into 0..255.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.zeros((3, 4), np.float32)
    weights[:, 1:] = np.eye(3) * gain
    initial = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.array([100, -40, -40, -40], np.float32), "bias"),
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["picture", "axes"], ["means"], keepdims=0),
        helper.make_node("Gemm", ["means", "weights", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tagger",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 8, 8, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])],
        initial,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(folder / "model.onnx"))


def red_network() -> dict[str, Any]:
    """All 179 convolutions with two channels, whose shortcuts carry the red channel through and whose rest is zero."""
    held: dict[str, Any] = {"tags": ["red", "unmoved"]}
    # Where shortcuts and 3x3 kernels stand, as AUTOMATIC1111's file has them.
    shortcuts = {1, 11, 36, 100, 158, 168}
    starts = [2, *range(5, 11, 3), 12, *range(15, 36, 3), 37, *range(40, 97, 3), 97, *range(101, 158, 3)]
    starts += [159, 162, 165, 169, 172, 175]
    for number in range(179):
        side = 7 if number == 0 else 3 if number - 1 in starts else 1
        weight = torch.zeros(2, 3 if number == 0 else 2, side, side)
        if number in {0, 178, *shortcuts}:
            weight[0, 0, side // 2 - (number == 0), side // 2 - (number == 0)] = 1
        held[f"n_Conv_{number}.weight"] = weight
        if number != 178:
            held[f"n_Conv_{number}.bias"] = torch.zeros(2)
    return held


@pytest.mark.parametrize(
    ("parts", "device"), [((), "cuda"), (("interrogate",), "cpu"), (("all",), "cpu"), (("sd",), "cuda")]
)
def test_use_cpu_keeps_the_networks_off_the_gpu(parts: tuple[str, ...], device: str) -> None:
    services = HeadlessServices(settings=Settings(use_cpu=parts))
    context = WorkerContext(options=services.options.snapshot(), device="cuda", services=services)
    assert device_for(context) == device
