"""Files are written whole, and what killed writes left is swept: that and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latentd.atomic import STALE, write_atomically

OLD = time.time() - STALE - 60
LEFT = ".latentd-0123456789abcdef.tmp"


def aged(path: Path, when: float = OLD) -> Path:
    path.write_bytes(b"half")
    os.utime(path, (when, when))
    return path


def test_the_first_write_into_a_folder_sweeps_old_leftovers(tmp_path: Path) -> None:
    left = aged(tmp_path / LEFT)
    write_atomically(tmp_path / "a", b"x")
    assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_nothing_else_is_swept(tmp_path: Path) -> None:
    names = (".0123456789abcdef.tmp", ".latentd-0123.tmp", f"{LEFT}.png", "latentd-0123456789abcdef.tmp", LEFT.upper())
    kept = [aged(tmp_path / name) for name in names]
    kept.append(aged(tmp_path / LEFT.replace("0", "1"), time.time()))
    (tmp_path / "below").mkdir()
    kept.append(aged(tmp_path / "below" / LEFT))
    (folder := tmp_path / LEFT.replace("0", "2")).mkdir()
    os.utime(folder, (OLD, OLD))
    write_atomically(tmp_path / "a", b"x")
    assert all(path.exists() for path in (*kept, folder))


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_of_that_name_is_left_alone_with_its_target(tmp_path: Path) -> None:
    target = aged(tmp_path / "picture.png")
    link = tmp_path / LEFT
    link.symlink_to(target)
    os.utime(link, (OLD, OLD), follow_symlinks=False)
    write_atomically(tmp_path / "a", b"x")
    assert link.is_symlink()
    assert target.exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="a"):
        write_atomically(tmp_path / "a", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_a_killed_write_leaves_the_old_file_whole_and_a_name_that_is_swept(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"before")
    program = (
        "import os, sys; from pathlib import Path; from latentd import atomic\n"
        "os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
        "atomic.write_atomically(Path(sys.argv[1]), b'after' * 1000, sync=True)"
    )
    assert subprocess.run([sys.executable, "-c", program, path], check=False).returncode == -9
    assert path.read_bytes() == b"before"
    (left,) = (other for other in tmp_path.iterdir() if other != path)
    os.utime(left, (OLD, OLD))
    again = (
        "import sys; from pathlib import Path; from latentd.atomic import write_atomically\n"
        "write_atomically(Path(sys.argv[1]), b'after')"
    )
    subprocess.run([sys.executable, "-c", again, path], check=True)
    assert [other.name for other in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"after"
