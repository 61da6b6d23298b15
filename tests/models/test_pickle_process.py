"""The process that reads pickled weight files: it may die, hang or be taken over, and harms no one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from latentd.errors import ModelLoadError
from latentd.models.files.pickles import process, reader
from latentd.models.files.unpickle import PickleFiles, load_pickle

posix = pytest.mark.skipif(os.name == "nt", reason="signals and limits are POSIX's")
MOST = 1 << 30


class Slow:
    """A reader's process that answers nothing, for as long as it lives."""

    CODE = "import sys, time; sys.stdin.buffer.read(4); time.sleep(600)"


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[PickleFiles]:
    monkeypatch.setattr(reader, "_START", Slow.CODE)
    files = PickleFiles()
    yield files
    files.reader.close()


def opened(files: PickleFiles, path: Path) -> None:
    with files.opened(path, MOST):
        pass


@posix
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_reader_that_dies_over_a_file_refuses_that_file_and_reads_the_next(
    tmp_path: Path, stuck: PickleFiles, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "deadly.pt")

    def kill() -> None:
        while stuck.reader.pid is None:
            time.sleep(0.01)
        os.kill(stuck.reader.pid, number)

    threading.Thread(target=kill).start()
    with pytest.raises(ModelLoadError, match=rf"^deadly\.pt .*signal {int(number)}") as refused:
        opened(stuck, tmp_path / "deadly.pt")
    assert refused.value.status == 422
    monkeypatch.undo()
    opened(stuck, tmp_path / "deadly.pt")


def test_a_reader_that_takes_too_long_is_ended(
    tmp_path: Path, stuck: PickleFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "endless.pt")
    monkeypatch.setattr(reader, "SECONDS", 0.3)
    with pytest.raises(ModelLoadError, match=r"^endless\.pt .*longer than 0 seconds"):
        opened(stuck, tmp_path / "endless.pt")
    assert stuck.reader.pid is None
    monkeypatch.undo()
    opened(stuck, tmp_path / "endless.pt")


@pytest.mark.parametrize(
    "answer", [b"\xff\xff\xff\xff", b"\x02\x00\x00\x00[]", b"\x02\x00\x00\x00{}", b"\x05\x00\x00\x00nojs!"]
)
def test_a_reader_that_was_taken_over_can_say_nothing_that_harms(
    tmp_path: Path, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "m.pt")
    monkeypatch.setattr(reader, "_START", f"import sys; sys.stdin.buffer.read(4); sys.stdout.buffer.write({answer!r})")
    with pytest.raises(ModelLoadError, match=r"^m\.pt"):
        opened(PickleFiles(), tmp_path / "m.pt")


def test_the_reader_needs_the_standard_library_alone_and_gets_no_environment(tmp_path: Path) -> None:
    code = reader._START.replace(
        "sys.exit(main())",
        "import json, os; print(json.dumps([sorted(m.split('.')[0] for m in sys.modules), sorted(os.environ)]))",
    )
    root = str(Path(reader.__file__).parents[4])
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", code, root]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"LATENTD_API_AUTH": "a:b"})
    modules, environment = json.loads(done.stdout)
    assert set(modules) - set(sys.stdlib_module_names) - {"__main__"} == {"latentd"}
    assert "LATENTD_API_AUTH" in environment  # the check can see it
    assert "LATENTD_API_AUTH" not in reader._ENVIRONMENT


@posix
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_the_reader_runs_with_limits_and_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTD_API_AUTH", "ada:secret")
    torch.save({"a": torch.ones(2)}, tmp_path / "m.pt")
    files = PickleFiles()
    opened(files, tmp_path / "m.pt")
    proc = Path(f"/proc/{files.reader.pid}")
    assert b"secret" not in (proc / "environ").read_bytes()
    lines = (proc / "limits").read_text(encoding="ascii").splitlines()[1:]
    limits = {line[:26].strip(): line[26:47].strip() for line in lines}
    assert limits["Max address space"] == str(process.MEMORY)
    assert limits["Max core file size"] == "0"
    assert int(limits["Max cpu time"]) <= process.COMPUTING + 10
    sockets = [link for link in (proc / "fd").iterdir() if os.readlink(link).startswith("socket:")]  # noqa: PTH115
    assert sockets == []
    files.reader.close()


@posix
def test_a_pickle_that_asks_for_more_memory_than_the_limit_is_refused_and_the_next_is_read(tmp_path: Path) -> None:
    """One long text, turned into bytes again and again: the walk lets it pass, since each is as large as the text."""
    text = b"X" + (20 << 20).to_bytes(4, "little") + b"a" * (20 << 20) + b"q\x00"
    once = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    program = b"\x80\x02}X\x01\x00\x00\x00a](" + text + once * 200 + b"es."
    from tests.models.test_unpickle import packed

    packed(tmp_path / "greedy.pt", program)
    with pytest.raises(ModelLoadError, match=r"^greedy\.pt .*more memory"):
        load_pickle(tmp_path / "greedy.pt")
    torch.save({"a": torch.ones(2)}, tmp_path / "m.pt")
    assert torch.equal(load_pickle(tmp_path / "m.pt")["a"], torch.ones(2))


@posix
@pytest.mark.parametrize("busy", [False, True])
def test_the_reader_ends_when_the_server_is_killed(tmp_path: Path, busy: bool) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "m.pt")
    script = (
        "import sys, time; from pathlib import Path\n"
        "from latentd.models.files.pickles import reader\n"
        "from latentd.models.files.unpickle import PickleFiles\n"
        "files = PickleFiles()\n"
        f"busy = {busy}\n"
        "if busy:\n"
        "    reader._START = reader._START.replace('sys.exit', 'import time; "
        "import latentd.models.files.pickles.process as p; "
        "p.read_contents = lambda file: time.sleep(600); sys.exit')\n"
        "    import threading\n"
        "    def tell():\n"
        "        while files.reader.pid is None: time.sleep(0.01)\n"
        "        time.sleep(1); print(files.reader.pid, flush=True)\n"
        "    threading.Thread(target=tell).start()\n"
        "with files.opened(Path(sys.argv[1]), 1 << 30): pass\n"
        "print(files.reader.pid, flush=True); time.sleep(600)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "m.pt")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        os.kill(pid, 0)
        server.kill()
    until = time.monotonic() + 20
    while _lives(pid):
        assert time.monotonic() < until, "the reader outlives its server"
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_an_idle_reader_goes_home_and_the_next_file_gets_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "m.pt")
    start = "import latentd.models.files.pickles.process as p; p.IDLE = 0.2; sys.exit(main())"
    monkeypatch.setattr(reader, "_START", reader._START.replace("sys.exit(main())", start))
    files = PickleFiles()
    opened(files, tmp_path / "m.pt")
    first = files.reader.pid
    assert first is not None
    until = time.monotonic() + 20
    while files.reader.pid is not None:
        assert time.monotonic() < until
        time.sleep(0.02)
    opened(files, tmp_path / "m.pt")
    assert files.reader.pid not in (None, first)
    files.reader.close()
