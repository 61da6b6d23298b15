"""The reader of pickled weight files: a process of its own, and the conversions that it writes."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from latentd.errors import ModelLoadError
from latentd.models.files.pickles import reader
from latentd.models.files.unpickle import PickleFiles, describe_pickle, load_pickle, pickle_files

posix = pytest.mark.skipif(os.name == "nt", reason="signals and limits are POSIX's")
MOST = 1 << 30


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where conversions are kept for one test."""
    kept = tmp_path / "cache" / "converted"
    pickle_files.keep_in(kept, MOST)
    yield kept
    pickle_files.keep_in(kept, 0)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def same(left: Any, right: Any) -> bool:
    """Bit for bit: types, shapes, strides and values."""
    if isinstance(left, torch.Tensor):
        return (
            isinstance(right, torch.Tensor)
            and (left.dtype, left.shape, left.stride()) == (right.dtype, right.shape, right.stride())
            and left.contiguous().reshape(-1).view(torch.uint8).equal(right.contiguous().reshape(-1).view(torch.uint8))
        )
    if isinstance(left, np.ndarray | np.generic):
        return bool(left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes())
    if isinstance(left, dict):
        return type(left) is type(right) and list(left) == list(right) and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


def everything() -> dict[str, Any]:
    torch.manual_seed(1)
    base = torch.randn(6, 8)
    pattern = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    return {
        "state_dict": OrderedDict(
            whole=base, alias=base, turned=base.T, part=base[2:4, 1:5], step=base[::2, ::3],
            spread=base[:1, :1].expand(3, 5), scalar=torch.tensor(2.5), empty=torch.empty(0, 4),
            half=base.half(), bfloat=base.bfloat16(), double=base.double(),
            every_half=pattern.clone().view(torch.float16),
            every_bfloat=pattern.clone().view(torch.bfloat16), long=torch.tensor([-(2**63), 2**63 - 1]),
            int=torch.tensor([-(2**31)], dtype=torch.int32), short=pattern[:3],
            char=torch.tensor([-128], dtype=torch.int8),
            byte=torch.arange(5, dtype=torch.uint8), truth=torch.tensor([True, False, True]),
            imaginary=torch.randn(3, dtype=torch.complex64), imaginary2=torch.randn(3, dtype=torch.complex128),
        ),
        1280: (OrderedDict({"linear.0.weight": torch.randn(2, 2)}), {}), "activation_func": "relu",
        "array": np.arange(6.0).reshape(2, 3), "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "number": np.float32(0.1), "kind": np.dtype("f8"), "big": 2**80, "negative": -(2**70),
        "floats": [0.1, float("inf"), -0.0, 1e-320], "bytes": b"\x00\xff", "text": "häß\udc80", "none": None,
        "yes": True,
        "set": {1, "a"}, "complex": 1 + 2j, (1, "a"): "a tuple for a key", 2.5: "a number",
    }  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kept", [True, False])
def test_everything_comes_back_bit_for_bit(tmp_path: Path, folder: Path, kept: bool, legacy: bool) -> None:
    path, data = tmp_path / "all.ckpt", everything()
    torch.save(data, path, _use_new_zipfile_serialization=not legacy)
    if not kept:
        pickle_files.keep_in(folder, 0)
    for _ in range(2):
        found = load_pickle(path)
        assert same(data, found)
        weights = found["state_dict"]
        weights["whole"][0, 0] = 77
        assert weights["turned"][0, 0] == weights["alias"][0, 0] == 77, "what shared memory shares it no more"
    assert len(entries(folder)) == (1 if kept else 0)


def test_a_conversion_is_plain_safetensors_for_this_user_alone(tmp_path: Path, folder: Path) -> None:
    torch.save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2).bfloat16()}, tmp_path / "m.pt")
    load_pickle(tmp_path / "m.pt")
    (entry,) = entries(folder)
    with safe_open(entry, "pt") as file:
        assert sorted(file.get_tensor(key).flatten().float().sum().item() for key in file.keys()) == [2.0, 15.0]  # noqa: SIM118
    if os.name != "nt":
        assert entry.stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700


def test_what_modules_and_training_write_is_read(tmp_path: Path, folder: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    parameters = torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.ones(2, 4))})
    torch.save({"m": module.state_dict(), "string_to_param": parameters, "p": module[0].weight}, tmp_path / "m.pt")
    found = load_pickle(tmp_path / "m.pt")
    assert same(found["string_to_param"], {"*": torch.ones(2, 4)})
    assert found["m"]._metadata == module.state_dict()._metadata
    module.load_state_dict(found["m"])
    assert torch.equal(found["p"], module[0].weight)


def test_a_whole_module_is_its_attributes(tmp_path: Path, folder: Path) -> None:
    inner = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2))
    inner.where, inner.told = Path("a") / "b", SimpleNamespace(size=7)
    torch.save({"model": inner.half()}, tmp_path / "m.pt")
    model = load_pickle(tmp_path / "m.pt")["model"]
    assert model["__class__"] == "torch.nn.modules.container.Sequential"
    assert model["where"] == "a/b"
    assert model["told"] == {"size": 7, "__class__": "types.SimpleNamespace"}
    convolution = model["_modules"]["0"]
    assert convolution["__class__"] == "torch.nn.modules.conv.Conv2d"
    assert convolution["kernel_size"] == (1, 1)
    assert torch.equal(convolution["_parameters"]["weight"], inner[0].weight)
    assert torch.equal(model["_modules"]["1"]["_buffers"]["running_var"], inner[1].running_var)


def test_a_file_that_is_replaced_is_read_anew(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "m.pt"
    for value in (1.0, 2.0, 3.0):
        torch.save({"a": torch.full((4,), value)}, tmp_path / "new.pt")
        os.utime(tmp_path / "new.pt", ns=(10**18, 10**18))
        (tmp_path / "new.pt").replace(path)
        assert load_pickle(path)["a"][0] == value
    assert len(entries(folder)) == 1, "conversions of what is no more are still there"


def test_a_file_that_is_written_to_in_place_is_read_anew(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"a": torch.full((4,), 1.0)}, path)
    old = load_pickle(path)
    stamp = path.stat()
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.write(data.replace(np.float32(1).tobytes() * 4, np.float32(5).tobytes() * 4))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert load_pickle(path)["a"][0] == 5
    assert old["a"][0] == 1, "a conversion does not follow its source"


def broken(entry: Path, how: str) -> None:
    data = bytearray(entry.read_bytes())
    match how:
        case "cut off":
            del data[-8:]
        case "empty":
            data.clear()
        case "another header":
            data[8:16] = b"XXXXXXXX"
        case "other values":
            data[-16:] = bytes(16)
        case "lying description":
            data = data.replace(b'\\"tensor\\",0,0,[4]', b'\\"tensor\\",0,9,[4]')
        case "no description":
            data = data.replace(b'{"latentd"', b'{"latentx"')
    stamp = entry.stat().st_mtime_ns
    entry.write_bytes(data)
    if how != "other values":  # the header tells of those
        os.utime(entry, ns=(stamp, stamp))


@pytest.mark.parametrize(
    "how", ["cut off", "empty", "another header", "other values", "lying description", "no description"]
)
def test_a_damaged_conversion_is_made_again(tmp_path: Path, folder: Path, how: str) -> None:
    path = tmp_path / "m.pt"
    torch.save({"a": torch.full((4,), 3.0)}, path)
    load_pickle(path)
    (entry,) = entries(folder)
    whole = entry.read_bytes()
    broken(entry, how)
    assert whole != entry.read_bytes()
    try:
        assert same(load_pickle(path), {"a": torch.full((4,), 3.0)})
    except ModelLoadError:
        assert how == "lying description"  # refused, never followed
        return
    assert entry.read_bytes() == whole


def test_the_bound_of_the_folder_holds_and_the_last_used_stay(tmp_path: Path, folder: Path) -> None:
    pickle_files.keep_in(folder, 100_000)
    for number in range(4):
        torch.save({"a": torch.full((7_000,), float(number))}, tmp_path / f"{number}.pt")
    for number in (0, 1, 2, 0, 3):  # 28 kB each: three fit, and 1 was used longest ago
        assert load_pickle(tmp_path / f"{number}.pt")["a"][0] == number
        time.sleep(0.01)
    assert sum(entry.stat().st_size for entry in entries(folder)) <= 100_000
    values = set()
    for entry in entries(folder):
        with safe_open(entry, "pt") as file:
            values.add(file.get_tensor("0")[0].item())
    assert values == {0.0, 2.0, 3.0}
    torch.save({"a": torch.full((70_000,), 9.0)}, tmp_path / "large.pt")
    assert load_pickle(tmp_path / "large.pt")["a"][-1] == 9
    assert len(entries(folder)) == 3, "a file larger than the bound drives the others out"


@pytest.mark.parametrize("how", ["a file stands there", "full", "no right"])
def test_without_a_place_for_conversions_files_are_read_all_the_same(
    tmp_path: Path, folder: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"a": torch.full((4,), 3.0), "n": np.arange(3)}, tmp_path / "m.pt")
    if how == "a file stands there":
        folder.parent.write_bytes(b"")
    elif how == "full":
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))  # type: ignore[attr-defined]
    else:
        monkeypatch.setattr(pickle_files._kept, "scratch", lambda size: tmp_path / "missing" / "scratch")
    assert same(load_pickle(tmp_path / "m.pt"), {"a": torch.full((4,), 3.0), "n": np.arange(3)})
    assert not folder.parent.is_dir() or entries(folder) == []


@posix
def test_a_disk_that_fills_up_midway_leaves_nothing_behind(tmp_path: Path, folder: Path) -> None:
    """The limit on the size of files stands in for the disk."""
    resource = pytest.importorskip("resource")
    torch.save({"a": torch.arange(100_000.0)}, tmp_path / "m.pt")
    alone = PickleFiles()
    alone.keep_in(folder, MOST)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        # The reader sets the soft limit for itself, so that the hard one has to hold it.
        child = subprocess.run(
            [sys.executable, "-c", _LIMITED, str(tmp_path / "m.pt"), str(folder)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert child.stdout.strip() == "99999.0", child.stderr
    assert list(folder.iterdir()) == []


_LIMITED = """
import resource, sys
from pathlib import Path
from latentd.models.files.unpickle import load_pickle, pickle_files
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
pickle_files.keep_in(Path(sys.argv[2]), 1 << 30)
print(load_pickle(Path(sys.argv[1]))["a"][-1].item())
"""


def test_two_servers_share_a_folder(tmp_path: Path, folder: Path) -> None:
    """Both convert, evict and load the same files at once, with room for one of the two."""
    for number in range(2):
        torch.save({"a": torch.full((7_000,), float(number))}, tmp_path / f"{number}.pt")
    script = (
        "import sys; from pathlib import Path\n"
        "from latentd.models.files.unpickle import load_pickle, pickle_files\n"
        "pickle_files.keep_in(Path(sys.argv[2]), 40_000)\n"
        "for turn in range(60):\n"
        "    for number in range(2):\n"
        "        found = load_pickle(Path(sys.argv[1]) / f'{number}.pt')['a']\n"
        "        assert bool((found == number).all()), (turn, number)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    servers = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for server in servers:
        _, errors = server.communicate(timeout=300)
        assert server.returncode == 0, errors
    assert sum(entry.stat().st_size for entry in entries(folder)) <= 80_000
    assert [path for path in folder.iterdir() if path.suffix == ".tmp"] == []


def test_a_look_reads_no_weights_and_writes_nothing(tmp_path: Path, folder: Path) -> None:
    torch.save({"a": torch.ones(2, 3).half(), "n": np.arange(2), "step": 4}, tmp_path / "m.pt")
    found = describe_pickle(tmp_path / "m.pt", lambda place: (place.shape, place.dtype))
    assert (found["a"], found["step"]) == (((2, 3), "float16"), 4)
    assert not folder.exists()


def test_nothing_of_it_starts_before_a_pickle_is_read(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from latentd.settings import parse_settings\n"
        "from latentd.server.services import create_services\n"
        "from latentd.models.files.unpickle import pickle_files\n"
        "services = create_services(parse_settings(['--data-dir', sys.argv[1]]))\n"
        "assert services.embedding_rows() == {'loaded': {}, 'skipped': {}}\n"
        "assert pickle_files.reader.pid is None\n"
        "print('nothing started')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert "nothing started" in done.stdout, done.stderr


def test_a_name_of_any_bytes_is_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "m.pt")
    odd = os.fsdecode(os.fsencode(str(tmp_path / "ä ")) + b"\xff\n.pt")
    try:
        shutil.copy(tmp_path / "m.pt", odd)
    except OSError:
        pytest.skip("this file system has no such names")
    assert same(load_pickle(Path(odd)), {"a": torch.ones(2)})
    assert base64.b64decode(reader._name(Path(odd))).endswith(b"\n.pt")
