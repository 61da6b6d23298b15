from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from latentd.errors import ModelLoadError
from latentd.models.state_dict import open_state_dict
from latentd.models.unpickle import load_pickle


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_come_back_from_both_forms(tmp_path: Path, legacy: bool) -> None:
    path, tensor = tmp_path / "m.pt", torch.arange(6.0).reshape(2, 3)
    torch.save({"state_dict": {"a": tensor}, "step": 5}, path, _use_new_zipfile_serialization=not legacy)
    assert load_pickle(path)["step"] == 5
    weights = open_state_dict(path)
    assert dict(weights.shapes) == {"a": (2, 3)}
    assert torch.equal(weights["a"], tensor)


def test_numpy_scalars_and_arrays_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"s": np.float64(2.5), "a": np.arange(3)}, path)
    data = load_pickle(path)
    assert data["s"] == 2.5
    assert list(data["a"]) == [0, 1, 2]


@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
def test_code_in_a_pickle_never_runs(tmp_path: Path, form: str) -> None:
    path, target = tmp_path / "m.ckpt", tmp_path / "made"
    if form == "bare":
        path.write_bytes(pickle.dumps(Evil(target)))
    else:
        torch.save({"a": Evil(target)}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ModelLoadError, match=r"m\.ckpt"):
        load_pickle(path)
    assert not target.exists()


def test_a_tensor_cannot_reach_beyond_its_file(tmp_path: Path) -> None:
    path, small = tmp_path / "m.pt", tmp_path / "small.pt"
    torch.save({"a": torch.zeros(4096)}, path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(small, "w") as target:
        for member in source.infolist():
            data = source.read(member)
            target.writestr(member.filename, data[:16] if member.filename.endswith("data/0") else data)
    with pytest.raises(ModelLoadError):
        load_pickle(small)


def test_compressed_archives_and_large_files_are_refused(tmp_path: Path) -> None:
    path, packed = tmp_path / "m.pt", tmp_path / "packed.pt"
    torch.save({"a": torch.zeros(4096)}, path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member), zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelLoadError, match="compressed"):
        load_pickle(packed)
    with pytest.raises(ModelLoadError, match="larger than"):
        load_pickle(path, max_bytes=100)


def test_what_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ModelLoadError, match="list"):
        load_pickle(path)
