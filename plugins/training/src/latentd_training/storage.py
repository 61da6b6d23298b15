"""Files of what was trained: written whole or not at all, with the optimiser's state beside them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentd.api import InvalidRequest, ModelLoadError, NotStored, is_regular, load_pickle, write_atomically

if TYPE_CHECKING:
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
    """Give ``optimizer`` the state that :func:`read_state` found.

    :raises ModelLoadError: it is one of other parameters.
    """
    try:
        optimizer.load_state_dict(state.values)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelLoadError(f"{path.name}{STATE_ENDING} does not fit: {error}") from error
