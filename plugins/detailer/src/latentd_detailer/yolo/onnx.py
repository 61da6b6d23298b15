"""Detectors as ONNX files, as Ultralytics exports them; onnxruntime is imported when one is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentd.api import ModelLoadError, NotConfigured, check_regular, install_hint
from latentd_detailer.yolo.files import labels_for, read_labels
from latentd_detailer.yolo.network import MOST_CLASSES, Output

_CORNERS = 4
_LARGEST_SIDE = 2048


@dataclass(frozen=True, slots=True)
class OnnxYolo:
    """An onnxruntime session.

    ``labels`` are empty if the file does not tell its classes; ``side`` (height, width) is the size that it takes, or
    None for any that 32 divides.
    """

    session: Any  # onnxruntime's InferenceSession; the package has no types
    name: str
    labels: tuple[str, ...]
    side: tuple[int, int] | None

    def __call__(self, picture: Tensor) -> Output:
        """What the network says of ``picture`` [1,3,h,w], RGB from 0 to 1.

        :raises ModelLoadError: its answer has another form.
        """
        (given,) = self.session.get_inputs()
        answers = [torch.from_numpy(answer) for answer in self.session.run(None, {given.name: picture.numpy()})]
        prototypes = answers[1][0] if len(answers) > 1 and answers[1].ndim == 4 else None
        masks = len(prototypes) if prototypes is not None else 0
        table = answers[0][0].T if answers[0].ndim == 3 else answers[0]
        count = len(self.labels) or table.shape[-1] - _CORNERS - masks
        if answers[0].ndim != 3 or count < 1 or table.shape[1] != _CORNERS + count + masks:
            raise ModelLoadError(
                f"{self.name} answers {[list(answer.shape) for answer in answers]}, not boxes, scores of "
                f"{count} classes and masks for each cell",
                hint="export it without its own suppression: yolo export format=onnx nms=False",
            )
        centre, half = table[:, :2], table[:, 2:_CORNERS] / 2
        return Output(
            boxes=torch.cat((centre - half, centre + half), dim=1),
            scores=table[:, _CORNERS : _CORNERS + count],
            coefficients=table[:, _CORNERS + count :] if masks else None,
            prototypes=prototypes,
        )


def load_onnx(path: Path, device: str) -> OnnxYolo:
    """The detector in ``path``.

    :raises NotConfigured: onnxruntime is not installed. :raises ModelLoadError: the file is damaged, or no detector.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise NotConfigured(f"{path.name} needs onnxruntime", hint=install_hint("detailer", "onnx")) from error
    available = onnxruntime.get_available_providers()
    wanted = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
    check_regular(path)
    try:
        session = onnxruntime.InferenceSession(
            str(path), providers=[name for name in (*wanted, "CPUExecutionProvider") if name in available]
        )
        names = session.get_modelmeta().custom_metadata_map.get("names")
    except Exception as error:  # onnxruntime's errors have no common base class
        reason = " ".join(str(error).split())[:300]
        raise ModelLoadError(f"{path.name} cannot be loaded as an ONNX detector: {reason}") from error
    shape = [given.shape for given in session.get_inputs()]
    if len(shape) != 1 or len(shape[0]) != 4 or shape[0][1] != 3:
        raise ModelLoadError(f"{path.name} takes {shape}, not one picture [1, 3, height, width]")
    told = {number: name for number, name in read_labels(names).items() if 0 <= number < MOST_CLASSES}
    return OnnxYolo(session, path.name, labels_for(max(told, default=-1) + 1, told), _side(path, shape[0][2:]))


def _side(path: Path, told: Sequence[object]) -> tuple[int, int] | None:
    """The size that the network takes; None if any.

    :raises ModelLoadError: no picture can have it.
    """
    height, width = told
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    if not (32 <= height <= _LARGEST_SIDE and 32 <= width <= _LARGEST_SIDE):
        raise ModelLoadError(f"{path.name} takes pictures of {width}x{height}")
    return height, width
