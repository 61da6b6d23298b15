"""Run one fuzzer in this process, under limits of memory and time; the last file is kept where it fails or crashes."""

from __future__ import annotations

import argparse
import faulthandler
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import TARGETS, Target

#: What one file may take beyond what the process had, in bytes and in seconds.
MOST_MEMORY = 512 << 20
MOST_RESIDENT = 96 << 20
MOST_SECONDS = 5.0
ROUND = 500


def main() -> int:
    """0 when every file was answered as it must be."""
    arguments = argparse.ArgumentParser(prog="python -m tests.fuzz")
    arguments.add_argument("target", choices=TARGETS)
    arguments.add_argument("--examples", type=int, default=0, help="so many files and no more")
    arguments.add_argument("--seconds", type=float, default=60.0, help="for so long (without --examples)")
    arguments.add_argument("--seed", type=int, default=0)
    given_ = arguments.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp(prefix="latentd-fuzz-"))
    path = folder / TARGETS[given_.target].name
    run = _Run(TARGETS[given_.target], path)
    until = time.monotonic() + given_.seconds
    number = given_.seed
    try:
        while run.count < given_.examples if given_.examples else time.monotonic() < until:
            run.round(number, min(given_.examples or ROUND, ROUND))
            number += 1
    except BaseException:
        traceback.print_exc()
        print(f"{given_.target}: failed in round {number} after {run.count} files; the file is {path}", flush=True)
        return 1
    print(f"{given_.target}: {run.count} files, {run.told}", flush=True)
    path.unlink(missing_ok=True)
    folder.rmdir()
    return 0


class _Run:
    def __init__(self, target: Target, path: Path) -> None:
        self.count = 0
        self._read = 0
        self._target = target
        self._path = path
        self._slowest = 0.0
        self._grown = 0
        self._limited = False

    @property
    def told(self) -> str:
        """The figures of the run."""
        slowest, grown = self._slowest * 1000, self._grown >> 10
        return f"{self._read} read, slowest {slowest:.0f} ms, most memory over one file {grown} KiB"

    def round(self, number: int, examples: int) -> None:
        """Give the reader ``examples`` files of this seed.

        :raises AssertionError: an answer, a time or a size that may not be.
        """

        @seed(number)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(self._target.files())
        def check(data: bytes) -> None:
            self._one(data)

        check()

    def _one(self, data: bytes) -> None:
        self._path.write_bytes(data)
        before, begun = _peak(), time.monotonic()
        self._read += self._target.check(self._path)
        taken, grown = time.monotonic() - begun, _peak() - before
        self.count += 1
        if self._limited:
            self._slowest, self._grown = max(self._slowest, taken), max(self._grown, grown)
            assert taken < MOST_SECONDS, f"{taken:.1f} s over one file"
            assert grown < MOST_RESIDENT, f"{grown >> 20} MiB over one file"
        elif self.count >= 50:  # by now everything is imported that will be
            self._limit()

    def _limit(self) -> None:
        self._limited = True
        if sys.platform == "linux":
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            most = pages * os.sysconf("SC_PAGE_SIZE") + MOST_MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _peak() -> int:
    """Most bytes that this process has ever had in memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    sys.exit(main())
