"""The unpickler of the reader's process: builds stand-ins for torch's and numpy's objects, and refuses all others.

No function that a file names is ever called: its name leads to a class of this module, or is refused.
"""

from __future__ import annotations

import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, TypeGuard

from latentd.models.files.pickles.values import PickleDict, PickleValue
from latentd.models.files.pickles.walk import PickleRefused, is_module, qualified

MAX_DIMENSIONS = 64
#: The classes of modules that one file may name.
MAX_CLASSES = 256
#: torch's names of storages, and the element type of each: torch's name and its bytes.
_STORAGES = {
    "torch BFloat16Storage": "bfloat16",
    "torch BoolStorage": "bool",
    "torch ByteStorage": "uint8",
    "torch CharStorage": "int8",
    "torch ComplexDoubleStorage": "complex128",
    "torch ComplexFloatStorage": "complex64",
    "torch DoubleStorage": "float64",
    "torch FloatStorage": "float32",
    "torch HalfStorage": "float16",
    "torch IntStorage": "int32",
    "torch LongStorage": "int64",
    "torch ShortStorage": "int16",
    "torch.storage UntypedStorage": "uint8",
}
ITEM_BYTES = {
    **{"bool": 1, "uint8": 1, "int8": 1, "int16": 2, "float16": 2, "bfloat16": 2, "int32": 4, "float32": 4},
    **{"int64": 8, "float64": 8, "complex64": 8, "complex128": 16},
}
_NUMBER_TYPE = re.compile(r"[<>=|]?([iu][1248]|f[248]|b1|\?)")
_ORDERS = ("<", ">", "|", "=")


class Sealed:
    """A stand-in that takes no state from the file."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise PickleRefused("a state for something that has none")


class Storage(Sealed):
    """``count`` elements of type ``dtype`` from ``first`` on, out of ``total`` that the file stores under ``key``."""

    __slots__ = ("count", "dtype", "first", "key", "total")

    def __init__(self, key: str, dtype: str, total: int, first: int = 0, count: int | None = None) -> None:
        self.key, self.dtype, self.total, self.first = key, dtype, total, first
        self.count = total if count is None else count

    @property
    def nbytes(self) -> int:
        """Bytes of all elements under this key."""
        return self.total * ITEM_BYTES[self.dtype]


class Tensor(Sealed):
    """A tensor over elements of a storage; ``offset`` counts from the first element under the storage's key."""

    __slots__ = ("offset", "size", "storage", "stride")

    def __init__(self, storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    @property
    def nbytes(self) -> int:
        """Bytes of its elements, whatever its strides."""
        return math.prod(self.size) * ITEM_BYTES[self.storage.dtype]


class Named(Sealed):
    """A class or function that the file names. A call returns the stand-in for its result."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def dotted(self) -> str:
        """Module and name as Python writes them."""
        return self.name.replace(" ", ".")

    def __call__(self, *arguments: PickleValue) -> PickleValue:
        """Return the stand-in for the result.

        :raises PickleRefused: weight files do not need this call.
        """
        if (call := _CALLS.get(self.name)) is None:
            raise PickleRefused(f"a call of {self.dotted}")
        return call(*arguments)


class Ordered(OrderedDict[PickleValue, PickleValue]):
    """A module's weights; ``metadata`` holds the versions of its parts, as ``state_dict()`` gives them."""

    metadata: object = None

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict) and isinstance(state.get("_metadata"), dict):
            self.metadata = state["_metadata"]


class Parameters:
    """A ``ParameterDict``: its parameters by name."""

    def __init__(self, *_arguments: object) -> None:
        self.held: PickleDict = {}

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict) and isinstance(state.get("_parameters"), dict):
            self.held = state["_parameters"]


class Inert:
    """A training callback stored with the weights; its content is dropped."""

    def __init__(self, *_arguments: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


class Module:
    """An object of a class of modules: its attributes. There is a subclass for each class that a file names."""

    name = ""

    def __new__(cls, *arguments: object) -> Module:
        """An object without attributes.

        :raises PickleRefused: arguments are given, which no module is saved with.
        """
        if arguments:
            raise PickleRefused(f"a call of {cls.name.replace(' ', '.')} with arguments")
        return super().__new__(cls)

    def __init__(self) -> None:
        self.attributes: PickleDict = {}

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise PickleRefused("damaged: a module whose attributes have no names")
        self.attributes = state

    def as_dict(self) -> PickleDict:
        """The attributes, and the name of the class under ``__class__``."""
        return {**getattr(self, "attributes", {}), "__class__": self.name.replace(" ", ".")}


class NumberType:
    """One of numpy's types of numbers: ``code`` such as ``<f4``."""

    __slots__ = ("code",)

    def __init__(self, code: str, *_flags: object) -> None:
        found = _NUMBER_TYPE.fullmatch(code)
        if found is None:
            raise PickleRefused("a type of numpy's that is no number")
        self.code = "?" if found[1] == "b1" else code

    def __setstate__(self, state: PickleValue) -> None:
        if state[1] in _ORDERS and self.code != "?":
            self.code = state[1] + self.code.lstrip("<>=|")

    @property
    def item_bytes(self) -> int:
        """Bytes of one number."""
        return 1 if self.code == "?" else int(self.code[-1])


class Array:
    """A numpy array or, with ``shape`` None, a scalar: its type and bytes."""

    __slots__ = ("data", "fortran", "kind", "shape")

    def __init__(self, kind: object, data: object, shape: object = None, fortran: object = False) -> None:
        if not isinstance(kind, NumberType) or not isinstance(data, bytes):
            raise PickleRefused("an array of what is no number")
        self.kind, self.data, self.fortran = kind, data, bool(fortran)
        self.shape = None if shape is None else _sizes(shape)
        if math.prod(self.shape or ()) * kind.item_bytes != len(data):
            raise PickleRefused("damaged: an array of another size than its shape")

    def __setstate__(self, state: PickleValue) -> None:
        _, shape, kind, fortran, data = state
        self.__init__(kind, data, shape, fortran)  # type: ignore[misc]


def _empty_array(_kind: object, _shape: object, _code: object) -> Array:
    """The stand-in for the result of ``_reconstruct``; the state that follows fills it."""
    return Array(NumberType("u1"), b"", (0,))


def _rebuilt(storage: object, offset: object, size: object, stride: object, *_rest: object) -> Tensor:
    sizes, strides = _sizes(size), _sizes(stride)
    if not isinstance(storage, Storage) or not _is_size(offset) or len(sizes) != len(strides):
        raise PickleRefused("damaged: a tensor without storage, size or stride")
    reach = offset + sum((length - 1) * step for length, step in zip(sizes, strides, strict=True)) + 1
    if reach > storage.count if all(sizes) else offset > storage.count:
        raise PickleRefused("a tensor beyond its storage")
    return Tensor(storage, storage.first + offset, sizes, strides)


def _held_tensor(tensor: object, *_rest: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise PickleRefused("damaged: a parameter that is no tensor")
    return tensor


def _encoded(text: object, encoding: object = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise PickleRefused("bytes in another form than pickles have them")
    return text.encode("latin1")


def _path(*parts: object) -> str:
    return "/".join(str(part) for part in parts if isinstance(part, str))


def _device(*parts: object) -> str:
    return ":".join(str(part) for part in parts if isinstance(part, str | int))


def _sizes(value: object) -> tuple[int, ...]:
    sizes = tuple(value) if isinstance(value, tuple | list) else None
    if sizes is None or len(sizes) > MAX_DIMENSIONS or not all(_is_size(size) for size in sizes):
        raise PickleRefused("a size that is none")
    return sizes


def _is_size(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


_CALLS: dict[str, Callable[..., PickleValue]] = {
    "_codecs encode": _encoded,
    "builtins complex": complex,
    "builtins set": set,
    "collections Counter": dict,
    "numpy dtype": NumberType,
    "numpy.core.multiarray _reconstruct": _empty_array,
    "numpy._core.multiarray _reconstruct": _empty_array,
    "numpy.core.multiarray scalar": Array,
    "numpy._core.multiarray scalar": Array,
    "pathlib PosixPath": _path,
    "pathlib WindowsPath": _path,
    "pathlib._local PosixPath": _path,
    "pathlib._local WindowsPath": _path,
    "torch Size": tuple,
    "torch device": _device,
    "torch.nn.parameter Parameter": _held_tensor,
    "torch._utils _rebuild_parameter": _held_tensor,
    "torch._utils _rebuild_parameter_with_state": _held_tensor,
    "torch._utils _rebuild_tensor": _rebuilt,
    "torch._utils _rebuild_tensor_v2": _rebuilt,
}
#: Classes of which pickles also make objects without a call.
_TYPES: dict[str, type] = {
    "collections OrderedDict": Ordered,
    "torch.nn.modules.container ParameterDict": Parameters,
    "ldm.callbacks LoggingCallback": Inert,
    "lightning.pytorch.callbacks.model_checkpoint ModelCheckpoint": Inert,
    "pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint": Inert,
}


class StandInUnpickler(pickle.Unpickler):
    """Reads a pickle that was walked before. ``storages``: every storage it names, by key."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8", errors="strict")
        self.storages: dict[str, Storage] = {}
        self._classes: dict[str, type[Module]] = {}

    def find_class(self, module: str, name: str) -> PickleValue:
        """Return the stand-in for what the pickle names; nothing is imported."""
        full = qualified(f"{module} {name}")
        return _TYPES.get(full) or (self._class(full) if is_module(full) else Named(full))

    def _class(self, name: str) -> type[Module]:
        """The stand-in for a class of modules; it must be a type, as pickles make its objects without a call."""
        if name not in self._classes:
            if len(self._classes) == MAX_CLASSES:
                raise PickleRefused(f"more than {MAX_CLASSES} classes of modules")
            self._classes[name] = type(name.replace(" ", "."), (Module,), {"name": name})
        return self._classes[name]

    def persistent_load(self, pid: PickleValue) -> Storage:
        """The storage of a persistent id: (``storage``, type, key, device, elements, view).

        :raises PickleRefused: it is another kind of id, of an unknown type, or contradicts one before it.
        """
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[2], str | int):
            raise PickleRefused("a reference to something that is no storage")
        kind, key, count = pid[1], str(pid[2]), pid[4]
        dtype = _STORAGES.get(kind.name) if isinstance(kind, Named) else None
        if dtype is None or not _is_size(count):
            raise PickleRefused("a storage of a kind that weight files do not have")
        storage = self.storages.setdefault(key, Storage(key, dtype, count))
        if (storage.dtype, storage.total) != (dtype, count):
            raise PickleRefused("a storage that is said to be two")
        view = pid[5] if len(pid) > 5 else None
        if view is None:
            return storage
        _, first, length = view  # (its own key, first element, elements) in files of torch before 0.4
        if not _is_size(first) or not _is_size(length) or first + length > count:
            raise PickleRefused("a view beyond its storage")
        return Storage(key, dtype, count, first, length)
