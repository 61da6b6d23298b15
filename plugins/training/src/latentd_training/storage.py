"""Files of what was trained: written whole or not at all, with the optimiser's state beside them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentd.api import InvalidRequest, ModelLoadError, NotStored, is_regular, load_pickle, write_atomically

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

STATE_ENDING = ".optim"
MAX_STATE = 16 << 30
LONGEST_NAME = 120


def clean_name(name: str) -> str:
    """``name`` with nothing but letters, digits, dots, underscores, hyphens and spaces.

    :raises InvalidRequest: nothing is left, or it begins with a dot, or is too long.
    """
    kept = "".join(letter for letter in name if letter.isalnum() or letter in "._- ").strip()
    if not kept:
        raise InvalidRequest("name: Name cannot be empty!")
    if kept.startswith("."):
        raise InvalidRequest("name: it begins with a dot, and such files are not listed")
    if len(kept.encode()) > LONGEST_NAME:
        raise InvalidRequest(f"name: longer than {LONGEST_NAME} bytes")
    return kept


def shortened(name: str) -> str:
    """``name`` cut so that it can be a file's, whatever ending it gets."""
    return name.encode()[:LONGEST_NAME].decode("utf-8", "ignore").rstrip()


def write_file(path: Path, data: bytes) -> None:
    """``data`` as ``path``; the file that was there stays whole until then.

    :raises NotStored: the disk is full, or the folder cannot be written.
    """
    try:
        write_atomically(path, data, sync=True)
    except OSError as error:
        raise NotStored(
            f"{path.name} could not be written: {error.strerror or type(error).__name__}",
            hint="what was saved before is whole; make room and go on from it",
        ) from error


def pickled(value: object) -> bytes:
    """``value`` as torch saves it."""
    import torch

    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class OptimizerState:
    """What is kept of an optimiser: its name, empty where the file says none, and its own ``state_dict``."""

    name: str
    values: dict[str, Any]  # each optimiser of torch has its own


def write_state(path: Path, optimizer: Optimizer, *, name: str, checksum: str) -> None:
    """The optimiser's state for the file ``path``, which ``checksum`` tells, in a file beside it.

    :raises NotStored: as :func:`write_file`.
    """
    state = {"hash": checksum, "optimizer_name": name, "optimizer_state_dict": optimizer.state_dict()}
    write_file(path.with_name(path.name + STATE_ENDING), pickled(state))


def read_state(path: Path, checksum: str) -> OptimizerState | None:
    """What :func:`write_state` wrote for this very file; None where there is nothing, or of another file.

    :raises ModelLoadError: it is damaged.
    """
    beside = path.with_name(path.name + STATE_ENDING)
    if not is_regular(beside):
        return None
    state = load_pickle(beside, max_bytes=MAX_STATE)
    values = state.get("optimizer_state_dict")
    if state.get("hash") != checksum or not isinstance(values, dict):
        return None
    return OptimizerState(str(state.get("optimizer_name") or ""), values)


def restore_optimizer(optimizer: Optimizer, state: OptimizerState, path: Path) -> None:
    """Give ``optimizer`` what the state that :func:`read_state` found says of each parameter.

    Rates and other settings stay those of ``optimizer``.

    :raises ModelLoadError: it is one of other parameters, or of another optimiser.
    """
    found = state.values.get("state")
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    scalars = _remembered(optimizer)
    # A parameter that no gradient has reached has no entry.
    fits = isinstance(found, dict) and all(
        isinstance(number, int) and number in range(len(parameters)) and _fits(memory, scalars, parameters[number])
        for number, memory in found.items()
    )
    if not fits:
        raise ModelLoadError(
            f"{path.name}{STATE_ENDING} is damaged, or of another optimiser or other parameters",
            hint="without that file, the optimiser begins anew",
        )
    optimizer.load_state_dict({"state": found, "param_groups": optimizer.state_dict()["param_groups"]})


def _remembered(optimizer: Optimizer) -> dict[str, bool]:
    """What an optimiser of this kind remembers of a parameter after a step, and whether it is one number."""
    import torch

    probe = torch.nn.Parameter(torch.zeros(2))
    probe.grad = torch.zeros(2)
    one: Optimizer = getattr(torch.optim, type(optimizer).__name__)([probe], lr=1.0)
    one.step()
    return {key: getattr(value, "shape", ()) != (2,) for key, value in one.state[probe].items()}


def _fits(memory: object, scalars: Mapping[str, bool], parameter: Tensor) -> bool:
    """Whether ``memory`` is what an optimiser remembers of ``parameter``."""
    import torch

    if not isinstance(memory, dict) or set(memory) != set(scalars):
        return False
    for key, value in memory.items():
        if isinstance(value, torch.Tensor):
            shape = torch.Size() if scalars[key] else parameter.shape
            if value.shape != shape or not value.is_floating_point() or not bool(value.isfinite().all()):
                return False
        elif not (scalars[key] and isinstance(value, int | float)):
            return False
    return True
