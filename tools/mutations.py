"""Faults put into the source one by one, each of which a named fast test must notice.

    python tools/mutations.py [WORD ...]

A mutation is a piece of source text, which occurs once in its file, and what stands in its place. Each is made in a
copy of the tree, where its test is run; the working tree is left alone. With words, only mutations whose name has one
of them are made. Exits 1 if a mutation is noticed by nobody, 2 if a test fails on the source as it is.

Libraries are imported once, and each test runs in a fork of that process, so that the seconds told are latentd's own
imports and the test. Needs a POSIX system.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutation_table import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parent.parent
#: Imported before the first test; none of them is changed.
LIBRARIES = (
    "torch",
    "diffusers.models.unets.unet_2d_condition",
    "transformers",
    "fastapi.testclient",
    "numpy",
    "PIL.Image",
)
#: Of the tree, what tests need; the recorded models are not among it.
COPIED = ("core", "tests", "tools", "pyproject.toml")
LEFT_OUT = ("__pycache__", "reference", "reference_sdxl", "node_modules", ".pytest_cache")
#: A test that has not ended after so many seconds has noticed something.
PATIENCE = 120.0
PASSED, FAILED = 0, 1


@dataclass(frozen=True, slots=True)
class Run:
    """How a run of tests ended: pytest's exit status (None: it did not end), its seconds by the clock and of the
    processor, and what it printed."""

    status: int | None
    seconds: float
    processor: float
    output: str

    @property
    def reason(self) -> str:
        """The first error in the report, or its last line."""
        lines = self.output.strip().splitlines() or [""]
        return next((line[1:].strip() for line in lines if line.startswith("E ")), lines[-1])


def main(words: Sequence[str]) -> int:
    """Make the mutations named by ``words``, or all; the exit status."""
    chosen = [m for m in MUTATIONS if not words or any(word in m.name for word in words)]
    with tempfile.TemporaryDirectory(prefix="latentd-mutations-") as folder:
        tree = copy_tree(ROOT, Path(folder))
        for name in LIBRARIES:
            __import__(name)
        return check(tree, chosen)


def check(tree: Path, mutations: Sequence[Mutation]) -> int:
    """Make each of ``mutations`` in ``tree`` and say what its test said; the exit status."""
    before = run_tests(tree, dict.fromkeys(m.test for m in mutations))
    if before.status != PASSED:
        print(before.output)
        print("tests fail on the source as it is")
        return 2
    survivors = []
    for mutation in mutations:
        run = _mutated(tree, mutation)
        noticed = run.status in (FAILED, None)
        verdict = "noticed " if noticed else "SURVIVED"
        print(
            f"{verdict} {run.seconds:5.1f} s, processor {run.processor:.1f} s  {mutation.name}: {run.reason[:80]}",
            flush=True,
        )
        if not noticed:
            survivors.append(mutation)
    for mutation in survivors:
        print(f"no failure of {mutation.test} with {mutation.mutated!r} for {mutation.original!r} in {mutation.file}")
    print(f"{len(mutations) - len(survivors)} of {len(mutations)} mutations are noticed")
    return 1 if survivors else 0


def copy_tree(root: Path, target: Path) -> Path:
    """``target``, with what tests need of ``root``."""
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
        else:
            shutil.copy(source, target / name)
    return target


def _mutated(tree: Path, mutation: Mutation) -> Run:
    path = tree / mutation.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutation.original) != 1:
        return Run(PASSED, 0.0, 0.0, f"{mutation.original!r} occurs {text.count(mutation.original)} times")
    # A compiled file is known by its source's size and second.
    compiled = Path(importlib.util.cache_from_source(str(path)))
    try:
        path.write_text(text.replace(mutation.original, mutation.mutated), encoding="utf-8")
        compiled.unlink(missing_ok=True)
        return run_tests(tree, [mutation.test])
    finally:
        path.write_text(text, encoding="utf-8")
        compiled.unlink(missing_ok=True)


def run_tests(tree: Path, tests: Iterable[str]) -> Run:
    """The tests of ``tree``, run there in a fork of this process up to the first failure."""
    report = tree / "report.txt"
    child = multiprocessing.get_context("fork").Process(target=_pytest, args=(tree, list(tests), report))
    began, used = time.monotonic(), _processor_seconds()
    child.start()
    child.join(PATIENCE * (1 if isinstance(tests, list) else 10))
    seconds = time.monotonic() - began
    status = child.exitcode
    if status is None:
        child.kill()
        child.join()
    return Run(status, seconds, _processor_seconds() - used, report.read_text(encoding="utf-8"))


def _processor_seconds() -> float:
    """What the children that have ended took of the processor."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _pytest(tree: Path, tests: list[str], report: Path) -> None:
    """In the fork: pytest's exit status is the process's; what it prints goes to ``report``."""
    import pytest

    with report.open("w", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(tree)
    # Servers that a test starts are the copy's, too.
    os.environ["PYTHONPATH"] = str(tree / "core")
    # No test of the table needs one, and they take longer to import than most of these take.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.exit(int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--rootdir", str(tree), *tests])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
