"""Networks in ONNX files, run by onnxruntime, which is imported when one is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from latentd.errors import ModelLoadError, NotConfigured
from latentd.regular import check_regular

_LONGEST_REASON = 300


class _Value(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> Sequence[int | str | None]: ...


class _Session(Protocol):
    """What is used of onnxruntime's InferenceSession; the package has no types."""

    def get_inputs(self) -> Sequence[_Value]: ...

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxModel:
    """A network of one input.

    :ivar name: the file's name, for messages.
    :ivar nbytes: the file's size, for the cache of models.
    """

    name: str
    session: _Session
    nbytes: int

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The input's shape; None for an axis of any length."""
        (given,) = self.session.get_inputs()
        return tuple(side if isinstance(side, int) and side > 0 else None for side in given.shape)

    def run(self, given: NDArray[np.float32]) -> list[NDArray[Any]]:
        """All outputs for the input ``given``, in the file's order.

        :raises ModelLoadError: the network does not take it, or fails.
        """
        (entry,) = self.session.get_inputs()
        try:
            return self.session.run(None, {entry.name: given})
        except Exception as error:  # onnxruntime's errors have no common base class
            raise ModelLoadError(f"{self.name} fails with an input {list(given.shape)}: {_reason(error)}") from error


def open_onnx(path: Path, device: str, *, install: str) -> OnnxModel:
    """The network in ``path``.

    :param device: as torch spells it; CUDA is used where onnxruntime has it.
    :param install: what to tell who has no onnxruntime: :func:`latentd.api.install_hint` with the extra that brings it.
    :raises NotConfigured: onnxruntime is not installed.
    :raises ModelLoadError: the file is damaged, no regular file, or a network of several inputs.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise NotConfigured(f"{path.name} needs onnxruntime", hint=install) from error
    available = onnxruntime.get_available_providers()
    wanted = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
    providers = [name for name in (*wanted, "CPUExecutionProvider") if name in available]
    check_regular(path)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=providers)
    except Exception as error:  # onnxruntime's errors have no common base class
        raise ModelLoadError(f"{path.name} cannot be loaded as an ONNX network: {_reason(error)}") from error
    if len(session.get_inputs()) != 1:
        raise ModelLoadError(f"{path.name} takes {len(session.get_inputs())} inputs, not one picture")
    return OnnxModel(name=path.name, session=session, nbytes=path.stat().st_size)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:_LONGEST_REASON]
