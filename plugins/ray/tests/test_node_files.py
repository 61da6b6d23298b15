"""Files on a machine of the cluster, without a cluster."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from latentd_ray.node_files import NodeFiles

from latentd.api import LatentdError, NeededFile, Settings

DATA = b"weights" * 1000


@pytest.fixture
def files(tmp_path: Path) -> NodeFiles:
    return NodeFiles(Settings(data_dir=str(tmp_path)))


def needed(name: str = "sub/a.safetensors", data: bytes = DATA, kind: str = "Lora") -> NeededFile:
    digest = hashlib.sha256(data).hexdigest()
    return NeededFile(kind=kind, name=name, path=Path("/server") / name, size=len(data), sha256=digest)


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / "models/Lora" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_file_is_there_by_name_and_contents(files: NodeFiles, tmp_path: Path) -> None:
    assert files.find(needed()) == "missing"
    put(tmp_path, "sub/a.safetensors", DATA)
    assert files.find(needed()) == "there"


def test_other_contents_of_the_name_are_no_match_and_stay(files: NodeFiles, tmp_path: Path) -> None:
    path = put(tmp_path, "sub/a.safetensors", DATA[::-1])
    put(tmp_path, "b.safetensors", DATA)
    assert files.find(needed()) == "other"
    assert path.read_bytes() == DATA[::-1]


def test_a_file_of_another_name_gets_the_servers_as_well(files: NodeFiles, tmp_path: Path) -> None:
    put(tmp_path, "same size.safetensors", DATA[::-1])
    mine = put(tmp_path, "mine.safetensors", DATA)
    assert files.find(needed()) == "linked"
    assert (tmp_path / "models/Lora/sub/a.safetensors").samefile(mine)


def test_a_copy_is_seen_when_it_is_whole(files: NodeFiles, tmp_path: Path) -> None:
    file = needed()
    files.take(file, 0, DATA[:4000])
    assert files.find(file) == "missing"
    files.take(file, 4000, DATA[4000:])
    files.finish(file)
    assert files.find(file) == "there"
    assert [path.name for path in (tmp_path / "models/Lora/sub").iterdir()] == ["a.safetensors"]


def test_a_damaged_copy_is_refused_and_deleted(files: NodeFiles, tmp_path: Path) -> None:
    file = needed()
    files.take(file, 0, DATA[:-1] + b"x")
    with pytest.raises(LatentdError, match="damaged"):
        files.finish(file)
    assert list((tmp_path / "models/Lora/sub").iterdir()) == []


def test_a_copy_for_which_there_is_no_room_is_not_begun(files: NodeFiles, tmp_path: Path) -> None:
    file = NeededFile(kind="Lora", name="a.safetensors", path=Path("/a"), size=2**60, sha256=None)
    with pytest.raises(LatentdError, match="no room"):
        files.take(file, 0, b"x")


@pytest.mark.parametrize("name", ["../../a.safetensors", "/etc/passwd", "sub/../../../x.safetensors"])
def test_names_lead_nowhere_else(files: NodeFiles, name: str) -> None:
    with pytest.raises(LatentdError, match="is not within"):
        files.find(needed(name))
