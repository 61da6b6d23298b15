"""Networks of a few numbers as ONNX files, in the shapes of the published ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

TAGS = "tag_id,name,category,count\n1,general,9,1\n2,blue,0,1\n3,green,0,1\n4,red,0,1\n"


def write_networks(models: Path) -> None:
    """A tagger and a U2Net below ``models``, where the package that writes such files is installed."""
    if importlib.util.find_spec("onnx") is not None:
        write_tagger(models / "WD14" / "wd-v1-4-vit-tagger-v2")
        write_u2net(models / "u2net" / "u2net.onnx")


def write_tagger(folder: Path) -> None:
    """A WD tagger [1,8,8,3] → [1,4]: a rating, and whether the mean of each channel is over 40 of 255."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.concatenate([np.zeros((3, 1)), np.eye(3)], axis=1).astype(np.float32)
    initial = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.array([9, -40, -40, -40], np.float32), "bias"),
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["picture", "axes"], ["means"], keepdims=0),
        helper.make_node("Gemm", ["means", "weights", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
    ]
    shapes = {"picture": [1, 8, 8, 3], "scores": [1, 4]}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    _save(folder / "model.onnx", helper.make_graph(nodes, "tagger", values[:1], values[1:], initial))
    (folder / "selected_tags.csv").write_text(TAGS)


def write_u2net(path: Path) -> None:
    """A network [1,3,320,320] → [1,1,320,320] for which red is foreground, green and blue are background."""
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.array([1, -0.5, -0.5], np.float32).reshape(1, 3, 1, 1), "weights")
    node = helper.make_node("Conv", ["picture", "weights"], ["mask"])
    shapes = {"picture": [1, 3, 320, 320], "mask": [1, 1, 320, 320]}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    _save(path, helper.make_graph([node], "u2net", values[:1], values[1:], [weights]))


def _save(path: Path, graph: object) -> None:
    import onnx
    from onnx import helper

    path.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(path))
