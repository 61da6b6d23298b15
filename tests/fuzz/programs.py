"""Hypothesis strategies of pickles: programs of opcodes, and files of torch with parts of them changed."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from functools import cache

import numpy as np
import torch
from hypothesis import strategies as st

from latentd.models.files.pickles.walk import CALLABLE

NAMES = (
    *(b"collections OrderedDict", b"collections Counter", b"collections defaultdict", b"torch Size", b"torch device"),
    *(b"torch._utils _rebuild_tensor_v2", b"torch._utils _rebuild_parameter", b"torch._utils _rebuild_sparse_tensor"),
    *(
        b"torch._utils _rebuild_meta_tensor_no_storage",
        b"torch FloatStorage",
        b"torch float32",
        b"torch.nn.Parameter x",
    ),
    *(b"numpy.core.multiarray _reconstruct", b"numpy.core.multiarray scalar", b"numpy dtype", b"numpy ndarray"),
    *(b"_codecs encode", b"builtins set", b"builtins bytearray", b"builtins complex", b"__builtin__ eval"),
    *(b"os mkdir", b"builtins exec", b"torch.nn.modules.container ParameterDict", b"torch.serialization load"),
    *(b"torch.nn.modules.conv Conv2d", b"ultralytics.nn.tasks DetectionModel", b"pathlib PosixPath"),
    *(b"types SimpleNamespace", b"ultralytics.nn.modules head.Detect"),
    *(b"torch._tensor _rebuild_from_type_v2", b"torch.storage UntypedStorage", b"torch zeros", b"torch Tensor"),
)
_SIZES = st.one_of(st.integers(0, 300), st.sampled_from([2**16, 2**27, 2**31 - 1, 2**32 - 1]))


def _op(code: bytes, *parts: bytes) -> bytes:
    return code + b"".join(parts)


def _text(value: str, claimed: int | None = None) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return _op(pickle.BINUNICODE, struct.pack("<I", len(data) if claimed is None else claimed), data)


_GLOBALS = st.sampled_from(NAMES).map(lambda name: _op(pickle.GLOBAL, name.replace(b" ", b"\n"), b"\n"))
_ALLOWED = st.sampled_from(sorted(CALLABLE)).map(
    lambda name: _op(pickle.GLOBAL, name.encode().replace(b" ", b"\n"), b"\n")
)
_NUMBERS = st.one_of(
    st.integers(0, 255).map(lambda n: _op(pickle.BININT1, bytes([n]))),
    st.integers(-(2**31), 2**31 - 1).map(lambda n: _op(pickle.BININT, struct.pack("<i", n))),
    st.integers(-(2**130), 2**130).map(lambda n: _op(pickle.LONG1, bytes([17]), n.to_bytes(17, "little", signed=True))),
    st.floats().map(lambda f: _op(pickle.BINFLOAT, struct.pack(">d", f))),
)
_VALUES = st.one_of(
    _NUMBERS,
    _GLOBALS,
    st.sampled_from(["storage", "cpu", "0", "1", "a", "latin1", "cuda:0", "meta"]).map(_text),
    st.text(max_size=6).map(_text),
    _SIZES.map(lambda size: _text("a", size)),
    st.sampled_from([pickle.NONE, pickle.NEWTRUE, pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_TUPLE, b"\x8f"]),
    st.binary(max_size=20).map(lambda data: _op(pickle.SHORT_BINBYTES, bytes([len(data)]), data)),
)
_PLAIN = [
    *(pickle.MARK, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.REDUCE, pickle.BUILD),
    *(pickle.APPEND, pickle.APPENDS, pickle.SETITEM, pickle.SETITEMS, pickle.BINPERSID, pickle.NEWOBJ),
]
_REFUSED = [pickle.POP, pickle.DUP, pickle.POP_MARK, pickle.OBJ, pickle.STACK_GLOBAL, pickle.MEMOIZE, pickle.ADDITEMS]
_CHANGES = st.one_of(
    st.sampled_from(_PLAIN),
    st.sampled_from(_REFUSED),
    st.integers(0, 9).map(lambda n: _op(pickle.BINGET, bytes([n]))),
    st.integers(0, 9).map(lambda n: _op(pickle.BINPUT, bytes([n]))),
    _SIZES.map(lambda n: _op(pickle.LONG_BINPUT, struct.pack("<I", n))),
    _SIZES.map(lambda n: _op(pickle.LONG_BINGET, struct.pack("<I", n))),
    st.integers(1, 400).map(lambda n: _op(pickle.NONE, pickle.TUPLE1 * n)),
    st.integers(1, 400).map(lambda n: _op(pickle.EMPTY_LIST * n, pickle.APPEND * (n - 1))),
)

_STORAGE = st.tuples(_SIZES, st.sampled_from(["0", "1"])).map(
    lambda given: _op(
        pickle.MARK, _text("storage"), b"ctorch\nFloatStorage\n", _text(given[1]), _text("cpu"),
        pickle.BININT, struct.pack("<I", given[0]), pickle.TUPLE, pickle.BINPERSID,
    )
)  # fmt: skip
_TUPLES = st.lists(_NUMBERS, max_size=4).map(lambda parts: _op(pickle.MARK, *parts, pickle.TUPLE))
_TENSORS = st.tuples(_STORAGE, _NUMBERS, _TUPLES, _TUPLES).map(
    lambda parts: _op(
        b"ctorch._utils\n_rebuild_tensor_v2\n", pickle.MARK, *parts, pickle.NEWFALSE,
        b"ccollections\nOrderedDict\n)R", pickle.TUPLE, pickle.REDUCE,
    )
)  # fmt: skip
_CALLS = st.tuples(st.one_of(_ALLOWED, _GLOBALS), st.lists(st.one_of(_VALUES, _TUPLES, _STORAGE), max_size=4)).map(
    lambda given: _op(given[0], pickle.MARK, *given[1], pickle.TUPLE, pickle.REDUCE)
)
_ITEMS = st.recursive(
    st.one_of(_VALUES, _TENSORS, _CALLS, _TUPLES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda parts: _op(pickle.MARK, *parts, pickle.TUPLE)),
        st.lists(inner, max_size=4).map(lambda parts: _op(pickle.EMPTY_LIST, pickle.MARK, *parts, pickle.APPENDS)),
        st.lists(st.tuples(inner, inner).map(b"".join), max_size=3).map(
            lambda parts: _op(pickle.EMPTY_DICT, pickle.MARK, *parts, pickle.SETITEMS)
        ),
        st.tuples(inner, inner).map(lambda parts: _op(parts[0], parts[1], pickle.BUILD)),
    ),
    max_leaves=12,
)
_DICTIONARIES = st.lists(st.tuples(st.text(max_size=5).map(_text), _ITEMS).map(b"".join), min_size=1, max_size=4).map(
    lambda parts: _op(pickle.EMPTY_DICT, pickle.MARK, *parts, pickle.SETITEMS)
)
#: Values one after another, or a dictionary as weight files hold it, with operations of chance between.
PROGRAMS = st.one_of(
    _DICTIONARIES, st.lists(st.one_of(_ITEMS, _CHANGES), max_size=25).map(b"".join), st.binary(max_size=80)
).map(lambda program: _op(pickle.PROTO, b"\x02", program, pickle.STOP))


@cache
def real_files() -> tuple[bytes, ...]:
    """Weight files of torch's two forms: tensors that share, numpy's arrays, an embedding, nested dictionaries."""
    base = torch.arange(12.0)
    holds = [
        {"state_dict": OrderedDict(a=base.reshape(3, 4), b=base[2:6], h=base.half()), "step": 7},
        {"string_to_param": {"*": torch.nn.Parameter(base.reshape(2, 6))}, "name": "x", "step": 1},
        {"array": np.arange(5.0), "scalar": np.float32(2), "size": base.reshape(3, 4).shape, "set": {1, 2}},
    ]
    out = []
    for data in holds:
        for zipped in (True, False):
            file = io.BytesIO()
            torch.save(data, file, _use_new_zipfile_serialization=zipped)
            out.append(file.getvalue())
    return tuple(out)


def packed(program: bytes, storage: bytes = b"\0" * 64) -> bytes:
    """A file of torch's zip form around a program."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        members = {"m/data.pkl": program, "m/byteorder": b"little", "m/data/0": storage, "m/version": b"3\n"}
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


@st.composite
def changed(draw: st.DrawFn, data: bytes) -> bytes:
    """``data`` with some bytes replaced, taken out, put in or doubled, or its end cut off."""
    out = bytearray(data)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3, 8]))):
        if not out:
            break
        place = draw(st.integers(0, len(out) - 1))
        match draw(st.integers(0, 4)):
            case 0:
                out[place] = draw(st.integers(0, 255))
            case 1:
                del out[place : place + draw(st.integers(1, 40))]
            case 2:
                out[place:place] = draw(st.binary(min_size=1, max_size=8))
            case 3:
                out[place:place] = out[place : place + draw(st.integers(1, 40))]
            case _ if draw(st.booleans()):
                del out[place:]
            case _:
                out[place : place + 4] = draw(st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"]))
    return bytes(out)


@st.composite
def _changed_within(draw: st.DrawFn, data: bytes) -> bytes:
    """A zip file whose pickle is changed, and whose checksums are right again."""
    source = zipfile.ZipFile(io.BytesIO(data))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for member in source.infolist():
            content = source.read(member)
            if member.filename.endswith(".pkl"):
                content = draw(changed(content))
            archive.writestr(member.filename, content)
    return file.getvalue()


def pickle_files() -> st.SearchStrategy[bytes]:
    """Whole weight files in pickle form, most of them broken."""
    head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    zipped = [data for data in real_files() if data.startswith(b"PK")]
    return st.one_of(
        PROGRAMS,
        PROGRAMS.map(packed),
        PROGRAMS.map(lambda program: head + program + pickle.dumps(["0"], 2) + struct.pack("<q", 4) + b"\0" * 16),
        st.sampled_from(real_files()).flatmap(changed),
        st.sampled_from(zipped).flatmap(_changed_within),
    )
