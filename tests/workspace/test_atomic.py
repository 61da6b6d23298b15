"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from latentd.atomic import write_atomically


@pytest.fixture(params=[0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_follow_the_umask_and_leave_it_alone(tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The umask is the process's: set to 0 for a moment, it is so for every other thread's files."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was changed"))
    for content in (b"old", b"new"):
        write_atomically(tmp_path / "sub" / "file", content)
    monkeypatch.undo()
    written = tmp_path / "sub" / "file"
    assert written.read_bytes() == b"new"
    assert stat.S_IMODE(written.stat().st_mode) == 0o666 & ~umask
    assert list(written.parent.iterdir()) == [written]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "file", b"old")

    def refuse(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(tmp_path / "file", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]
