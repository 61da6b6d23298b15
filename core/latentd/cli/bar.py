"""A progress bar on one line of a terminal, tqdm's."""

from __future__ import annotations

from types import TracebackType
from typing import Self, TextIO

from tqdm import tqdm

LOADING = "loading the model"
TOTAL = "Total progress"


class ProgressBar:
    """Shows how far a generation is, and leaves nothing behind; writes nothing if ``stream`` is not a terminal.

    :param silent: write nothing in any case.
    """

    def __init__(self, stream: TextIO, *, silent: bool = False) -> None:
        # Until the number of steps is known, what is going on and for how long.
        self._bar = tqdm(
            file=stream,
            disable=True if silent else None,
            leave=False,
            dynamic_ncols=True,
            unit="step",
            desc=LOADING,
            bar_format="{desc}  {elapsed}",
        )

    def show(self, job_no: int, job_count: int, step: int, steps: int) -> None:
        """Draw the bar for step ``step`` of ``steps`` in job part ``job_no`` of ``job_count``."""
        bar = self._bar
        if bar.disable:
            return
        if job_count > 0 and steps > 0:
            bar.bar_format, bar.desc = None, f"{TOTAL}: "
            bar.total = job_count * steps
            bar.n = min(job_no * steps + step, bar.total)
            if job_count > 1:
                bar.set_postfix_str(f"picture {min(job_no + 1, job_count)} of {job_count}", refresh=False)
        bar.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.close()
