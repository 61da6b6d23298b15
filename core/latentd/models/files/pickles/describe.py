"""The content of a weight file as JSON: a table of values, each of which refers only to earlier ones.

::

    {"nodes": [node, ...], "root": value, "storages": [[dtype, bytes, place], ...]}

A value is ``null``, a boolean, a number, a text, or ``[n]``: what node n says. Nodes:

====================================================  =====================================================
``["dict", [key, value, key, value, ...]]``           also of ``Counter``, ``ParameterDict``, modules
``["ordered", [key, value, ...], metadata]``          an ``OrderedDict``, with its ``_metadata`` or null
``["list", [...]]``, ``["tuple", [...]]``, ``["set", [...]]``
``["integer", "-ff"]``                                in hexadecimal, beyond 64 bits
``["complex", real, imaginary]``
``["bytes", base64]``
``["tensor", storage, offset, size, stride]``         offset and stride in elements
``["array", type, shape, fortran, storage]``          numpy's type, such as ``<f4``; shape null: a scalar
``["type", "<f4"]``                                   one of numpy's types
====================================================  =====================================================

A class or type that a file names as a value is written as its name. ``place`` is the position of the storage's bytes in
the weight file; for an array, whose bytes are within the pickle, it is the bytes themselves in base64.
"""

from __future__ import annotations

import base64

from latentd.models.files.pickles.containers import Contents
from latentd.models.files.pickles.stand_ins import (
    Array,
    Inert,
    Module,
    Named,
    NumberType,
    Ordered,
    Parameters,
    Storage,
    Tensor,
)
from latentd.models.files.pickles.values import PickleDict, PickleValue
from latentd.models.files.pickles.walk import PickleRefused
from latentd.types import JsonValue

#: Tensors may share storages (tied weights) or repeat a value, but copies of them must not fill the memory: in all they
#: may be this many times as large as the file, plus this many bytes.
MAX_SHARED = 4
ALLOWANCE = 1 << 30
_INTEGER = 2**63


def check_sum(total: int, size: int) -> None:
    """Refuse tensors that in all are far larger than their file.

    With a stride of 0, four bytes can be a tensor of any size, and a storage may be used any number of times: the
    memory is needed as soon as such a tensor is copied.

    :raises PickleRefused: ``total`` bytes of tensors are too many for a file of ``size`` bytes.
    """
    if total > MAX_SHARED * size + ALLOWANCE:
        raise PickleRefused(f"tensors of {total} bytes, far more than the file")


class Description:
    """The table of one file. ``sources``: for each storage the position of its bytes in the file, or the bytes.

    :param size: bytes of the file.
    :raises PickleRefused: a value contains itself or has an unknown kind, or the tensors are far larger than the file.
    """

    def __init__(self, contents: Contents, size: int) -> None:
        self.nodes: list[list[JsonValue]] = []
        self.storages: list[tuple[str, int]] = []
        self.sources: list[int | bytes] = []
        self._contents = contents
        self._numbers: dict[int, int] = {}
        self._keys: dict[str, int] = {}
        self._open: set[int] = set()
        self._total, self._size = 0, size
        self.root = self._value(contents.value)

    def as_json(self, *, inline: bool) -> dict[str, JsonValue]:
        """The description; with ``inline``, it includes each storage's place or bytes."""
        told = [base64.b64encode(place).decode() if isinstance(place, bytes) else place for place in self.sources]
        storages = [
            [dtype, count, place] if inline else [dtype, count]
            for (dtype, count), place in zip(self.storages, told if inline else self.sources, strict=True)
        ]
        return {"nodes": self.nodes, "root": self.root, "storages": storages}

    def _value(self, value: object) -> object:
        if value is None or isinstance(value, bool | float | str):
            return value
        if isinstance(value, int):
            return value if -_INTEGER <= value < _INTEGER else self._added(["integer", format(value, "x")])
        if isinstance(value, Inert):
            return None
        if isinstance(value, Named):
            return value.dotted
        if isinstance(value, type):
            return value.__name__
        number = self._numbers.get(id(value))
        if number is None:
            if id(value) in self._open:
                raise PickleRefused("a value that holds itself")
            self._open.add(id(value))
            node = self._node(value)
            self._open.discard(id(value))
            number = self._numbers[id(value)] = len(self.nodes)
            self.nodes.append(node)
        if isinstance(value, Tensor):
            self._total += value.nbytes
            check_sum(self._total, self._size)
        return [number]

    def _node(self, value: PickleValue) -> list[PickleValue]:
        if isinstance(value, Parameters):
            value = value.held
        if isinstance(value, Module):
            value = value.as_dict()
        if isinstance(value, Ordered):
            return ["ordered", self._items(value), self._value(value.metadata)]
        if isinstance(value, dict):
            return ["dict", self._items(value)]
        if isinstance(value, list | tuple | set):
            return [type(value).__name__, [self._value(item) for item in value]]
        if isinstance(value, bytes):
            return ["bytes", base64.b64encode(value).decode()]
        if isinstance(value, complex):
            return ["complex", value.real, value.imag]
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, Array):
            shape = None if value.shape is None else list(value.shape)
            return ["array", value.kind.code, shape, value.fortran, self._added_storage("uint8", value.data)]
        if isinstance(value, NumberType):
            return ["type", value.code]
        raise PickleRefused(f"a {type(value).__name__}, which weight files do not have")

    def _items(self, values: PickleDict) -> list[object]:
        return [self._value(part) for item in dict.items(values) for part in item]

    def _tensor(self, tensor: Tensor) -> list[PickleValue]:
        return ["tensor", self._of_file(tensor.storage), tensor.offset, list(tensor.size), list(tensor.stride)]

    def _of_file(self, storage: Storage) -> int:
        if storage.key not in self._keys:
            place = self._contents.places[storage.key]
            self._keys[storage.key] = self._added_storage(storage.dtype, place, storage.nbytes)
        return self._keys[storage.key]

    def _added_storage(self, dtype: str, source: int | bytes, nbytes: int | None = None) -> int:
        self.storages.append((dtype, len(source) if isinstance(source, bytes) else nbytes or 0))
        self.sources.append(source)
        return len(self.storages) - 1

    def _added(self, node: list[PickleValue]) -> list[int]:
        self.nodes.append(node)
        return [len(self.nodes) - 1]
