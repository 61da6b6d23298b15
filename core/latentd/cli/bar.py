"""A progress bar on one line of a terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self, TextIO

WIDTH = 30


class ProgressBar:
    """Shows how far a generation is; writes nothing if ``stream`` is not a terminal.

    :param silent: write nothing in any case.
    """

    def __init__(self, stream: TextIO, *, silent: bool = False) -> None:
        self._stream = stream
        self._silent = silent or not stream.isatty()
        self._begun = time.monotonic()
        self._last = ""

    def show(self, job_no: int, job_count: int, step: int, steps: int) -> None:
        """Draw the bar for step ``step`` of ``steps`` in job part ``job_no`` of ``job_count``."""
        line = bar_line(job_no, job_count, step, steps, time.monotonic() - self._begun)
        if not self._silent and line != self._last:
            self._stream.write("\r\x1b[K" + line)
            self._stream.flush()
            self._last = line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._last:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def bar_line(job_no: int, job_count: int, step: int, steps: int, seconds: float) -> str:
    """The text of the bar; before the first step it says that the model is being loaded."""
    if job_count <= 0 or steps <= 0:
        return f"loading the model  {seconds:4.0f} s"
    done = min((job_no + step / steps) / job_count, 1.0)
    filled = round(done * WIDTH)
    part = f"  picture {min(job_no + 1, job_count)} of {job_count}" if job_count > 1 else ""
    return f"[{'#' * filled}{'.' * (WIDTH - filled)}] {done:4.0%}  step {step} of {steps}{part}  {seconds:.0f} s"
