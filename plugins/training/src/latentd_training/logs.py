"""What a training leaves beside its file: losses as CSV, its settings as text, and tensorboard's events."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from latentd.api import JobControl, NotStored
from latentd_training.settings import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from latentd.api import JsonValue

LOG_PARTS = ("embeddings", "hypernetworks", "loras", "images", "image_embeddings", "tensorboard")
"""The folders inside that of a run."""
# A pipe or a link in the file's place is refused; without O_NONBLOCK, opening a pipe would wait for a reader.
_FLAGS = ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC")
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | sum(getattr(os, name, 0) for name in _FLAGS)


class _Board(Protocol):
    """What is used of tensorboard's ``SummaryWriter``, which has no types."""

    def add_scalar(self, tag: str, value: float, step: int) -> None: ...

    def add_image(self, tag: str, pixels: NDArray[np.uint8], step: int, *, dataformats: str) -> None: ...

    def close(self) -> None: ...


class TrainingLog:
    """The log of one run. Nothing is written but what the options ask for.

    :param folder: of this run; made when something is written.
    :param table: name of the CSV file.
    :raises NotStored: from each method: the disk is full, or the folder cannot be written.
    """

    def __init__(self, folder: Path, table: str, options: Mapping[str, JsonValue], control: JobControl) -> None:
        self.folder = folder
        self._table = folder / table
        self._every = int(options["training_write_csv_every"])
        self._settings = bool(options["save_training_settings_to_txt"])
        self._pictures = bool(options["training_tensorboard_save_images"])
        self._board = _board(folder, options, control)

    def start(self, settings: Mapping[str, JsonValue]) -> None:
        """Write the settings that the run begins with (option ``save_training_settings_to_txt``)."""
        if not self._settings:
            return
        now = datetime.now().astimezone()
        lines = [f"datetime : {now:%Y-%m-%d %H:%M:%S}", *(f"{key}: {_shown(value)}" for key, value in settings.items())]
        self._append(self.folder / f"settings-{now:%Y-%m-%d-%H-%M-%S}.txt", "\n".join(lines) + "\n")

    def step(self, progress: Progress) -> None:
        """Write a row where it is due (option ``training_write_csv_every``), and tell tensorboard."""
        if self._board is not None:
            self._board.add_scalar("Loss/train", progress.loss, progress.step)
            self._board.add_scalar("Learn rate/train", progress.rate, progress.step)
            if progress.step in progress.held_out:
                self._board.add_scalar("Loss/held out", progress.held_out[progress.step], progress.step)
        if self._every < 1 or progress.step % self._every:
            return
        before, length = progress.step - 1, progress.epoch_length
        row = {
            "step": progress.step,
            "epoch": before // length,
            "epoch_step": before % length,
            "loss": f"{progress.loss:.7f}",
            "learn_rate": progress.rate,
        }
        out = io.StringIO()
        writer = csv.DictWriter(out, fieldnames=list(row), lineterminator="\r\n")
        if not self._table.exists():
            writer.writeheader()
        writer.writerow(row)
        self._append(self._table, out.getvalue())

    def picture(self, image: Image, step: int) -> None:
        """Give tensorboard a preview (option ``training_tensorboard_save_images``)."""
        if self._board is not None and self._pictures:
            import numpy as np

            self._board.add_image("Validation at epoch", np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Have tensorboard's events written out."""
        if self._board is not None:
            self._board.close()

    def _append(self, path: Path, text: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(path, _APPEND, 0o666), "a", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise NotStored(f"{path.name} could not be written: {reason}", hint="what was saved is whole") from error


def run_folder(log_folder: Path, name: str) -> Path:
    """Where a run that begins now keeps its logs: below a folder of the day, as in AUTOMATIC1111."""
    return log_folder / f"{datetime.now().astimezone():%Y-%m-%d}" / name


def _shown(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _board(folder: Path, options: Mapping[str, JsonValue], control: JobControl) -> _Board | None:
    """A writer of tensorboard's if option ``training_enable_tensorboard`` asks for it, else None."""
    if not options["training_enable_tensorboard"]:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        control.warn("option training_enable_tensorboard: the package tensorboard is not installed; nothing is logged")
        return None
    flush = int(options["training_tensorboard_flush_every"])
    return SummaryWriter(log_dir=str(folder / "tensorboard"), flush_secs=flush)
