from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from latentd.errors import ModelLoadError
from latentd.models.files.state_dict import open_state_dict
from latentd.models.files.unpickle import load_pickle


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


# --- pickles made to hurt --------------------------------------------------------------------------------------------


def packed(path: Path, program: bytes, storage: bytes = b"\0" * 16) -> Path:
    """A file of torch's zip form whose ``data.pkl`` is ``program``."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {
            "m/data.pkl": program,
            "m/byteorder": b"little",
            "m/data/0": storage,
            "m/version": b"3\n",
        }.items():
            archive.writestr(name, data)
    return path


def number(value: int) -> bytes:
    return pickle.LONG1 + bytes([16]) + value.to_bytes(16, "little", signed=True)


def text(value: str) -> bytes:
    return pickle.BINUNICODE + len(value).to_bytes(4, "little") + value.encode()


STORAGE = (
    pickle.MARK + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04" + pickle.TUPLE + b"Q"
)


def tensor(size: bytes, stride: bytes, storage: bytes = STORAGE) -> bytes:
    """{"a": a tensor of this size and stride}."""
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n" + pickle.MARK + storage + b"K\x00" + size + stride
    rebuilt += pickle.NEWFALSE + b"ccollections\nOrderedDict\n)R" + pickle.TUPLE + pickle.REDUCE
    return pickle.PROTO + b"\x02}" + text("a") + rebuilt + pickle.SETITEM + pickle.STOP


NESTED = pickle.PROTO + b"\x02}" + pickle.EMPTY_TUPLE + pickle.TUPLE1 * 150_000
HOSTILE = {
    "a tuple nested 150,000 deep, hashed as a key": NESTED + pickle.NONE + pickle.SETITEM + pickle.STOP,
    "the same as a value": pickle.PROTO + b"\x02}" + text("a") + NESTED[3:] + pickle.SETITEM + pickle.STOP,
    "lists nested 150,000 deep": b"\x80\x02}" + text("a") + b"]" * 150_000 + b"a" * 149_999 + b"s.",
    "a memo index of 2**27": b"\x80\x02}r" + (2**27).to_bytes(4, "little") + pickle.STOP,
    "a stride of 0": tensor(number(2**40) + pickle.TUPLE1, b"K\x00" + pickle.TUPLE1),
    "a buffer of 64 GiB": b"\x80\x02}" + text("a") + b"c__builtin__\nbytearray\n" + number(2**36) + b"\x85Rs.",
    "a tensor class called": b"\x80\x02}" + text("a") + b"ctorch\nTensor\n" + number(2**36) + b"\x85Rs.",
    "an array beyond the file": b"\x80\x02}"
    + text("a")
    + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    + number(2**36)
    + b"\x85C\x01b\x87Rs.",
    "a storage beyond the file": tensor(b"K\x01\x85", b"K\x01\x85", STORAGE.replace(b"K\x04", number(2**36))),
    "a string said to be of 4 GB": b"\x80\x02X\xff\xff\xff\xffabc",
    "no end": b"\x80\x02" + b"N" * 1000,
    "nothing on the stack": b"\x80\x02\x86.",
    "a module called with arguments": b"\x80\x02}"
    + text("a")
    + b"cultralytics.nn.tasks\nModel\n"
    + text("x")
    + b"\x85Rs.",
    "a module made with arguments": b"\x80\x02}" + text("a") + b"ctorch.nn.modules.conv\nConv2d\nK\x01\x85\x81s.",
    "a module whose state is no attributes": b"\x80\x02}" + text("a") + b"ctorch.nn.modules.conv\nConv2d\n)\x81]bs.",
    "a module that holds itself": b"\x80\x02}"
    + text("a")
    + b"ctorch.nn.modules.conv\nConv2d\n)\x81q\x00}"
    + text("b")
    + b"h\x00sbs.",
    "a function of torch.nn": b"\x80\x02}" + text("a") + b"ctorch.nn.functional\nrelu\n)Rs.",
    "a module outside of both packages": b"\x80\x02}" + text("a") + b"cultralytics_evil.nn\nModel\n)\x81s.",
    "300 classes of modules": b"\x80\x02}"
    + b"".join(text(f"a{n}") + b"cultralytics.nn\nModel%d\n)\x81s" % n for n in range(300))
    + b".",
    "operations without number": b"\x80\x02" + b"N0" * 3_000_000 + b".",
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("form", ["zip", "bare", "other case"])
def test_a_pickle_made_to_hurt_is_refused(tmp_path: Path, kind: str, form: str) -> None:
    path = tmp_path / "hostile.pt"
    if form == "bare":
        path.write_bytes(HOSTILE[kind])
    else:
        packed(path, HOSTILE[kind])
        if form == "other case":
            path.write_bytes(path.read_bytes().replace(b"m/data.pkl", b"m/DATA.pkl"))
    with pytest.raises(ModelLoadError, match=r"hostile\.pt"):
        load_pickle(path)


def test_a_tensor_shared_without_measure_is_refused(tmp_path: Path) -> None:
    path, weight = tmp_path / "shared.pt", torch.zeros(1 << 20)
    torch.save({f"block.{n}": weight for n in range(300)}, path)
    with pytest.raises(ModelLoadError, match="far more than the file"):
        load_pickle(path)


def test_tied_weights_and_slices_are_read(tmp_path: Path) -> None:
    path, weight = tmp_path / "tied.pt", torch.arange(12.0).reshape(3, 4)
    torch.save({"a": weight, "tied": weight, "part": weight[1:], "turned": weight.T}, path)
    data = load_pickle(path)
    assert torch.equal(data["turned"], weight.T)
    assert torch.equal(data["part"], weight[1:])


def test_what_training_leaves_in_a_checkpoint_is_read(tmp_path: Path) -> None:
    path = tmp_path / "trained.ckpt"
    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.save({"state_dict": module.state_dict(), "optimizer": optimizer.state_dict(), "global_step": 470_000}, path)
    assert load_pickle(path)["global_step"] == 470_000


# --- numpy's types, of which the process has one each ----------------------------------------------------------------


def numpy_type(arguments: bytes, state: bytes, name: bytes = b"cnumpy\ndtype\n") -> bytes:
    """{"a": a type of numpy's with this state}."""
    made = name + pickle.MARK + arguments + pickle.TUPLE + pickle.REDUCE
    built = made + pickle.MARK + state + pickle.TUPLE + pickle.BUILD
    return pickle.PROTO + b"\x02}" + text("a") + built + pickle.SETITEM + pickle.STOP


STATE = b"K\x03" + text("<") + b"NNN" + b"J\xff\xff\xff\xff" * 2
COPY = text("f8") + pickle.NEWFALSE + pickle.NEWTRUE


@pytest.mark.parametrize(
    "program",
    [
        numpy_type(text("f8"), STATE + b"K\x00"),
        numpy_type(text("f8") + pickle.NEWFALSE * 2, STATE + b"K\x00"),
        numpy_type(b"", STATE + b"K\x00", b"cnumpy.dtypes\nFloat64DType\n"),
        numpy_type(COPY, STATE + b"K\x3f"),
        numpy_type(COPY, b"K\x03" + text("<") + b"NNN" + b"K\x40K\x08K\x00"),
        numpy_type(COPY, b"K\x03" + text("<") + b"NN}" + b"J\xff\xff\xff\xff" * 2 + b"K\x00"),
        numpy_type(COPY, b"K\x03"),
        numpy_type(text("O") + pickle.NEWFALSE + pickle.NEWTRUE, STATE + b"K\x00"),
        numpy_type(text("f8,O8") + pickle.NEWFALSE + pickle.NEWTRUE, STATE + b"K\x00"),
    ],
    ids=["shared", "no copy", "class", "flags", "size", "fields", "short", "pointers", "record"],
)
def test_a_file_cannot_change_the_types_of_numpy(tmp_path: Path, program: bytes) -> None:
    with pytest.raises(ModelLoadError, match="numpy"):
        load_pickle(packed(tmp_path / "m.pt", program))
    assert np.zeros(3).sum() == 0
    assert np.dtype("f8").flags == 0


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i1", "i8", "u2", "?"])
def test_what_numpy_itself_writes_of_its_types_is_read(tmp_path: Path, kind: str) -> None:
    path, value = tmp_path / "m.pt", np.ones(3, kind)
    for zipped in (True, False):
        torch.save(
            {"array": value, "scalar": value[0], "type": value.dtype}, path, _use_new_zipfile_serialization=zipped
        )
        data = load_pickle(path)
        assert np.array_equal(data["array"], value)
        assert data["scalar"] == 1
        assert data["type"] == value.dtype
