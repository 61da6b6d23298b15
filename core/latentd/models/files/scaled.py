"""Weights of eight bits with a scale each, as ComfyUI saves them: read as the numbers they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from latentd.errors import ModelLoadError
from latentd.models.files.state_dict import StateDict

_EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)
#: What the scale of ``x.weight`` is called, by ComfyUI until 2025 and since.
_SCALES = (".scale_weight", ".weight_scale")


def without_scales(weights: StateDict) -> StateDict:
    """``weights`` with the scaled ones multiplied out and the scales gone; itself if it has none.

    Reading a scaled weight raises :class:`ModelLoadError` if it is of another form than float8.
    """
    scales = {
        key.removesuffix(ending) + ".weight": key
        for key in weights.shapes
        for ending in _SCALES
        if key.endswith(ending)
    }
    if not scales:
        return weights
    shapes = {key: shape for key, shape in weights.shapes.items() if key not in scales.values()}
    return StateDict(weights.name, _MultipliedOut(weights, scales), shapes, weights.metadata)


class _MultipliedOut(Mapping[str, Tensor]):
    def __init__(self, source: StateDict, scales: Mapping[str, str]) -> None:
        self._source = source
        self._scales = scales

    def __getitem__(self, key: str) -> Tensor:
        stored = self._source[key]
        if key not in self._scales:
            return stored
        if stored.dtype not in _EIGHT_BITS:
            raise ModelLoadError(
                f"{self._source.name} is quantised in a form that latentd does not read ({key} is {stored.dtype})",
                hint="take the checkpoint in half precision",
            )
        scale = self._source[self._scales[key]].float()
        by_output = scale.numel() > 1
        return stored.float() * (scale.reshape(-1, *[1] * (stored.dim() - 1)) if by_output else scale.reshape(()))

    def __iter__(self) -> Iterator[str]:
        return iter(self._source)

    def __len__(self) -> int:
        return len(self._source)
