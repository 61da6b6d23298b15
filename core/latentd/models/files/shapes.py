"""Names and shapes of the tensors in a weight file, read without torch and without the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from latentd.models.files.pickles.rebuild import TensorPlace
from latentd.models.files.pickles.values import PickleDict, PickleValue
from latentd.models.files.safetensors_header import METADATA, checked_header, is_safetensors
from latentd.models.files.unpickle import DEFAULT_MAX_BYTES, describe_pickle

#: Dictionaries in which files in pickle form keep their weights: Lightning's, and upscalers'.
_NESTED = ("state_dict", "model_state_dict", "params_ema", "params")


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """What is known of a tensor that was not read."""

    shape: tuple[int, ...]
    is_floating_point: bool


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Key → shape of the tensors in a weight file, safetensors or pickle; a nested dictionary is unwrapped.

    :raises ModelLoadError: the file is missing, damaged or refused.
    """
    held = unwrapped(tensor_facts(path))
    return {key: facts.shape for key, facts in held.items() if isinstance(key, str) and isinstance(facts, TensorFacts)}


def tensor_facts(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> PickleDict:
    """The dictionary in a weight file, with :class:`TensorFacts` for each tensor; nothing is unwrapped.

    :raises ModelLoadError: the file is missing, damaged or refused.
    """
    if not is_safetensors(path):
        return describe_pickle(path, _facts, max_bytes=max_bytes)
    header = checked_header(path)
    header.pop(METADATA, None)
    return {
        key: TensorFacts(tuple(entry["shape"]), entry["dtype"].startswith(("F", "BF"))) for key, entry in header.items()
    }


def unwrapped(data: Mapping[PickleValue, PickleValue]) -> Mapping[PickleValue, PickleValue]:
    """The dictionary of weights within what a file in pickle form holds."""
    return next((data[name] for name in _NESTED if isinstance(data.get(name), dict)), data)


def _facts(place: TensorPlace) -> TensorFacts:
    return TensorFacts(place.shape, "float" in place.dtype)
