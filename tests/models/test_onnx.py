"""Networks in ONNX files: what they take and give, and files that are none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from latentd.api import ModelLoadError, NotConfigured, open_onnx

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def write(path: Path, *inputs: str) -> Path:
    """A network that adds its inputs [1,any,3], and gives the sum and its negative."""
    from onnx import TensorProto, helper

    def value(name: str) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "length", 3])

    nodes = [helper.make_node("Sum", list(inputs), ["sum"]), helper.make_node("Neg", ["sum"], ["negative"])]
    graph = helper.make_graph(nodes, "sum", [value(n) for n in inputs], [value("sum"), value("negative")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path


def test_a_network_gives_its_outputs_in_order(tmp_path: Path) -> None:
    path = write(tmp_path / "sum.onnx", "x")
    network = open_onnx(path, "cpu", install="")
    given = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    total, negative = network.run(given)
    assert np.array_equal(total, given)
    assert np.array_equal(negative, -given)
    assert network.shape == (1, None, 3)
    assert network.nbytes == path.stat().st_size


def test_an_input_that_does_not_fit_is_told(tmp_path: Path) -> None:
    network = open_onnx(write(tmp_path / "sum.onnx", "x"), "cpu", install="")
    with pytest.raises(ModelLoadError, match=r"sum.onnx fails with an input \[1, 2, 4\]"):
        network.run(np.zeros((1, 2, 4), np.float32))


def test_what_is_no_network_of_one_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("nothing")
    os.mkfifo(tmp_path / "pipe.onnx")
    write(tmp_path / "two.onnx", "x", "y")
    for name, words in (
        ("text.onnx", "text.onnx cannot be loaded as an ONNX network"),
        ("pipe.onnx", "pipe.onnx is no regular file"),
        ("two.onnx", "two.onnx takes 2 inputs"),
    ):
        with pytest.raises(ModelLoadError, match=words):
            open_onnx(tmp_path / name, "cpu", install="")


def test_without_onnxruntime_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "sum.onnx", "x")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(NotConfigured, match=r"sum\.onnx needs onnxruntime") as missing:
        open_onnx(path, "cpu", install="pip install it")
    assert missing.value.hint == "pip install it"
