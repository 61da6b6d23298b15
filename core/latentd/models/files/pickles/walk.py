"""Checking a pickle before it is read, by following its operations without building anything.

Even an unpickler that calls no function of the file's choosing follows the file in all else: it nests tuples until the
interpreter's recursion overflows the stack, and makes strings and lists of any size. This module follows the opcodes on
a stack of placeholders, and refuses a pickle that has something weight files do not need.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

MAX_DEPTH = 64
MAX_OPCODES = 2_000_000
#: The longest text or byte string, in bytes: numpy arrays in old embeddings are written as one.
MAX_STRING = 256 << 20

#: Functions that may be called: their results are not larger than their arguments, or are bounded below.
CALLABLE = frozenset(
    {
        "_codecs encode",
        "collections Counter",
        "collections OrderedDict",
        "builtins complex",
        "builtins set",
        "ldm.callbacks LoggingCallback",
        "lightning.pytorch.callbacks.model_checkpoint ModelCheckpoint",
        "numpy dtype",
        "numpy.core.multiarray _reconstruct",
        "numpy.core.multiarray scalar",
        "numpy._core.multiarray _reconstruct",
        "numpy._core.multiarray scalar",
        "pathlib PosixPath",
        "pathlib WindowsPath",
        "pathlib._local PosixPath",
        "pathlib._local WindowsPath",
        "pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint",
        "torch Size",
        "torch device",
        "torch.nn.modules.container ParameterDict",
        "torch.nn.parameter Parameter",
        "torch._utils _rebuild_parameter",
        "torch._utils _rebuild_parameter_with_state",
        "torch._utils _rebuild_tensor",
        "torch._utils _rebuild_tensor_v2",
    }
)
#: Classes of whole modules and their settings, as detectors are saved. An object of one is read as its attributes and
#: the name of its class: the classes are never looked for.
_MODULES = re.compile(r"(?:ultralytics(?:\.\w+)+|torch\.nn\.modules(?:\.\w+)+) [A-Za-z]\w*|types SimpleNamespace")
_NUMPY_ARRAY = frozenset({"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"})
#: Names of Python 2's modules, as pickles of protocol 2 write them.
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}

#: Numbers of numpy. Other types contain pointers or further types.
_NUMBER_TYPE = re.compile(r"[<>=|]?(?:[iu][1248]|f[248]|b1|\?)")
_LONGEST_TYPE = 8
#: Types of values that the checks need.
_BOOLEANS = {"NEWTRUE": 1, "NEWFALSE": 0}
_TEXTS = frozenset({"BINUNICODE", "SHORT_BINSTRING", "BINSTRING", "SHORT_BINUNICODE", "UNICODE", "STRING"})
_BYTES = frozenset({"BINBYTES", "SHORT_BINBYTES"})
_INTEGERS = frozenset({"BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4"})
_ATOMS = frozenset({"BINFLOAT", "FLOAT"})
_CONTAINERS = frozenset({"EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"})
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = frozenset({"BINPUT", "LONG_BINPUT", "PUT"})
_GETS = frozenset({"BINGET", "LONG_BINGET", "GET"})


class PickleRefused(ValueError):
    """The pickle has something that no weight file needs; the message says what."""


class Readable(Protocol):
    """A binary file, or an object with its methods for reading."""

    def read(self, n: int = -1, /) -> bytes:
        """At most ``n`` bytes, or all of the rest if it is negative."""

    def readline(self) -> bytes:
        """The bytes up to and including the next line feed."""


@dataclass(slots=True)
class _Item:
    """A placeholder for one value: its depth of nesting, and as much of the value as the checks need."""

    depth: int = 0
    number: int | None = None
    text: str | None = None
    name: str | None = None
    is_type: bool = False
    is_copy: bool = True
    parts: tuple[_Item, ...] = ()
    hashable: bool = True


_MARK = _Item()
_ATOM = _Item()
_NONE = _Item()


class _Bounded:
    """A file with bounded reads, so that a string that claims to be long cannot fill the memory."""

    def __init__(self, file: Readable) -> None:
        self._file = file

    def read(self, n: int = -1) -> bytes:
        if n > MAX_STRING:
            raise PickleRefused(f"a string of {n} bytes")
        return self._file.read(n)

    def readline(self) -> bytes:
        return self._file.readline()


def walk_pickle(file: Readable, *, size: int) -> None:
    """Follow one pickle to its end; ``file`` is then positioned after it.

    :param size: bytes of the whole weight file, which no array or storage may exceed.
    :raises PickleRefused: it is damaged, nests too deeply, calls what weight files do not call, states sizes beyond the
        file, or has no end in sight.
    """
    walk = _Walk(size)
    count = 0
    try:
        for opcode, argument, _ in pickletools.genops(_Bounded(file)):  # type: ignore[arg-type]
            count += 1
            if count > MAX_OPCODES:
                raise PickleRefused(f"more than {MAX_OPCODES} operations")
            walk.step(opcode.name, argument)
    except PickleRefused:
        raise
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise PickleRefused(f"damaged: {error}") from error


class _Walk:
    """The unpickler's stack and memo, with placeholders for values."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._stack: list[_Item] = []
        self._memo: dict[int, _Item] = {}

    def step(self, name: str, argument: object) -> None:
        """Do one operation.

        :raises PickleRefused: no weight file needs it.
        """
        if name in _TEXTS and isinstance(argument, str) and len(argument) <= _LONGEST_TYPE:
            self._stack.append(_Item(text=argument))
        elif name in _TEXTS or name in _ATOMS or name in _BYTES:
            self._stack.append(_ATOM)
        elif name == "NONE":
            self._stack.append(_NONE)
        elif name in _BOOLEANS:
            self._stack.append(_Item(number=_BOOLEANS[name]))
        elif name in _INTEGERS:
            self._stack.append(_Item(number=argument if isinstance(argument, int) else None))
        elif name == "MARK":
            self._stack.append(_MARK)
        elif name in _CONTAINERS:
            self._stack.append(_Item(depth=1, hashable=False))
        elif name in _TUPLES:
            self._push_tuple(self._popped(_TUPLES[name]))
        elif name == "TUPLE":
            self._push_tuple(self._down_to_mark())
        elif name in _PUTS:
            self._put(argument)
        elif name in _GETS:
            self._stack.append(self._memo[_index(argument)])
        elif name == "GLOBAL":
            self._stack.append(_Item(name=qualified(str(argument))))
        else:
            self._change(name)

    def _change(self, name: str) -> None:
        """Do one of the operations that change values on the stack."""
        if name in ("REDUCE", "NEWOBJ"):
            arguments, function = self._stack.pop(), self._stack.pop()
            self._stack.append(self._called(function, arguments))
        elif name == "BINPERSID":
            self._stack.append(self._storage(self._stack.pop()))
        elif name == "BUILD":
            self._build(self._stack.pop())
        elif name == "APPEND":
            self._nest([self._stack.pop()])
        elif name == "APPENDS":
            self._nest(self._down_to_mark())
        elif name == "SETITEM":
            self._set(self._popped(2))
        elif name == "SETITEMS":
            self._set(self._down_to_mark())
        elif name not in ("PROTO", "STOP"):
            raise PickleRefused(f"the operation {name}")

    def _popped(self, count: int) -> list[_Item]:
        if len(self._stack) < count:
            raise PickleRefused("damaged: the stack is empty")
        items = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return items

    def _down_to_mark(self) -> list[_Item]:
        for place in range(len(self._stack) - 1, -1, -1):
            if self._stack[place] is _MARK:
                items = self._stack[place + 1 :]
                del self._stack[place:]
                return items
        raise PickleRefused("damaged: no mark on the stack")

    def _push_tuple(self, items: list[_Item]) -> None:
        self._stack.append(
            _Item(depth=_deeper(items), parts=tuple(items), hashable=all(item.hashable for item in items))
        )

    def _put(self, argument: object) -> None:
        index = _index(argument)
        if index > MAX_OPCODES:
            raise PickleRefused(f"a memo index of {index}")
        self._memo[index] = self._stack[-1]

    def _nest(self, items: list[_Item]) -> None:
        """Put ``items`` into the container on top."""
        top = self._stack[-1]
        if top is _ATOM or top is _MARK or top is _NONE or top.is_type:
            raise PickleRefused("damaged: no container to put a value into")
        top.depth = max(top.depth, _deeper(items))

    def _build(self, state: _Item) -> None:
        """Set the state of the object on top of the stack.

        A state that numpy does not write would damage its types for the whole process: there is one object for the type
        of floats, and its flags say whether the bytes of an array are pointers.
        """
        top = self._stack[-1]
        if not top.is_type:
            self._nest([state])
            return
        parts = state.parts
        plain = len(parts) == 8 and all(part is _NONE for part in parts[2:5])
        if not (plain and top.is_copy and [part.number for part in parts[5:]] == [-1, -1, 0]):
            raise PickleRefused("a state of numpy's types that numpy does not write")

    def _set(self, items: list[_Item]) -> None:
        for key in items[::2]:
            if not key.hashable or key.depth > 1:
                raise PickleRefused("a dictionary's key that is no plain value")
        self._nest(items)

    def _called(self, function: _Item, arguments: _Item) -> _Item:
        name = function.name
        if name is None or (name not in CALLABLE and not is_module(name)):
            raise PickleRefused(f"a call of {(name or 'something without a name').replace(' ', '.')}")
        if name in _NUMPY_ARRAY and len(arguments.parts) > 1:
            cells = 1
            for length in arguments.parts[1].parts:
                cells *= max(length.number or 0, 0)
            if cells > self._size:
                raise PickleRefused("an array larger than the file")
        return self._type_of(name, arguments) or _Item(depth=_deeper([arguments]), hashable=False)

    def _type_of(self, name: str, arguments: _Item) -> _Item | None:
        """The type of numpy that the call makes: a new one, or (without ``copy=True``) the shared one; else None."""
        if name != "numpy dtype":
            return None
        given = arguments.parts
        if not given or not _NUMBER_TYPE.fullmatch(given[0].text or ""):
            raise PickleRefused("a type of numpy's that is no number")
        return _Item(is_type=True, is_copy=len(given) == 3 and given[2].number == 1)

    def _storage(self, reference: _Item) -> _Item:
        """The placeholder for a persistent id: (``storage``, type, key, device, number of elements, ...)."""
        if len(reference.parts) > 4 and (reference.parts[4].number or 0) > self._size:
            raise PickleRefused("a storage larger than the file")
        return _Item(depth=1, hashable=False)


def is_module(name: str) -> bool:
    """Whether ``module name`` is a class of modules, of which an object is read as its attributes."""
    return name not in CALLABLE and _MODULES.fullmatch(name) is not None


def _index(argument: object) -> int:
    if not isinstance(argument, int):
        raise PickleRefused("damaged: a memo index that is no number")
    return argument


def qualified(argument: str) -> str:
    """``module name`` as pickletools gives it, with Python 2's modules renamed."""
    module, _, name = argument.partition(" ")
    return f"{_RENAMED.get(module, module)} {name}"


def _deeper(items: Iterable[_Item]) -> int:
    depth = 1 + max((item.depth for item in items), default=0)
    if depth > MAX_DEPTH:
        raise PickleRefused(f"values nested more than {MAX_DEPTH} deep")
    return depth
