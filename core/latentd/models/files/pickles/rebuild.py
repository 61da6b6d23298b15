"""Values from a description: plain Python, numpy's arrays, and the caller's objects for tensors. Imports no torch."""

from __future__ import annotations

import base64
import json
import math
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from latentd.models.files.pickles.convert import DESCRIPTION
from latentd.models.files.pickles.describe import check_sum
from latentd.models.files.pickles.stand_ins import ITEM_BYTES
from latentd.models.files.pickles.values import PickleValue
from latentd.models.files.safetensors_header import read_checked
from latentd.types import JsonValue

_NUMBER_TYPE = re.compile(r"[<>=|]?(?:[iu][1248]|f[248])|\?")


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """The bytes of one storage: their position in the file, or the bytes themselves. ``dtype`` is torch's name."""

    dtype: str
    nbytes: int
    place: int | bytes


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """A tensor that was not read: its shape, its dtype by torch's name, and its place in elements of its storage."""

    shape: tuple[int, ...]
    dtype: str
    storage: int
    offset: int
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Described:
    """A description, and the storages of its tensors."""

    nodes: list[JsonValue]
    root: object
    storages: tuple[StoredBytes, ...]


def described(answer: dict[str, JsonValue]) -> Described:
    """The description in an answer of the reader's process.

    :raises ValueError: the answer has no valid description.
    """
    try:
        stored = [
            StoredBytes(dtype, nbytes, base64.b64decode(place) if isinstance(place, str) else place)
            for dtype, nbytes, place in answer["storages"]
        ]
        return _checked(answer, stored)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no description: {error}") from error


def converted(file: BufferedReader, path: Path) -> Described:
    """The description in an open file of conversions; ``path`` is named in errors.

    :raises ModelLoadError: its header is damaged, or does not fit the file.
    :raises ValueError: it holds no description.
    """
    header, begin = read_checked(file, path)
    try:
        answer = json.loads(header["__metadata__"][DESCRIPTION])
        stored = []
        for number, (dtype, nbytes) in enumerate(answer["storages"]):
            start, end = header[str(number)]["data_offsets"]
            if end - start != nbytes:
                raise ValueError("a storage of another size")
            stored.append(StoredBytes(dtype, nbytes, begin + start))
        return _checked(answer, stored)
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no description: {error}") from error


def _checked(answer: dict[str, JsonValue], stored: list[StoredBytes]) -> Described:
    for entry in stored:
        item = ITEM_BYTES[entry.dtype]
        known = len(entry.place) == entry.nbytes if isinstance(entry.place, bytes) else entry.place >= 0
        if not known or entry.nbytes < 0 or entry.nbytes % item:
            raise ValueError("a storage that cannot be")
    return Described(list(answer["nodes"]), answer["root"], tuple(stored))


def rebuild(
    description: Described,
    size: int,
    tensor: Callable[[TensorPlace], PickleValue],
    data: Callable[[StoredBytes], bytes] | None = None,
) -> PickleValue:
    """The value that a description is of.

    :param size: bytes of the weight file, which limit the sum of its tensors.
    :param tensor: makes the object for a tensor; called once for each.
    :param data: gives the bytes of an array; without it arrays are None.
    :raises ValueError: the description is damaged, or describes more than the file can hold.
    """
    values: list[PickleValue] = []
    nbytes: dict[int, int] = {}
    total = 0

    def value(told: object) -> PickleValue:
        nonlocal total
        if not isinstance(told, list):
            return told
        if told[0] in nbytes:
            total += nbytes[told[0]]
            check_sum(total, size)
        return values[told[0]]

    def items(told: list[object]) -> PickleValue:
        return ((value(key), value(held)) for key, held in zip(told[::2], told[1::2], strict=True))

    try:
        for kind, *told in description.nodes:
            match kind:
                case "dict":
                    values.append(dict(items(told[0])))
                case "ordered":
                    values.append(_ordered(items(told[0]), value(told[1])))
                case "list" | "tuple" | "set":
                    make = {"list": list, "tuple": tuple, "set": set}[kind]
                    values.append(make(value(item) for item in told[0]))
                case "tensor":
                    place = _place(description, told)
                    nbytes[len(values)] = math.prod(place.shape) * ITEM_BYTES[place.dtype]
                    values.append(tensor(place))
                case "array":
                    stored = description.storages[told[3]]
                    values.append(_array(told, data(stored)) if data else None)
                case _:
                    values.append(_plain(kind, told))
        return value(description.root)
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"damaged description: {error}") from error


def _place(description: Described, told: list[JsonValue]) -> TensorPlace:
    number, offset, shape, stride = told
    stored = description.storages[number]
    held = stored.nbytes // ITEM_BYTES[stored.dtype]
    sizes = [*shape, *stride, offset, number]
    if len(shape) != len(stride) or not all(isinstance(n, int) and 0 <= n < 2**63 for n in sizes):
        raise ValueError("a tensor that cannot be")
    reach = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True)) + 1
    if all(shape) and reach > held:
        raise ValueError("a tensor beyond its storage")
    return TensorPlace(tuple(shape), stored.dtype, number, offset if all(shape) else 0, tuple(stride))


def _ordered(items: PickleValue, metadata: object) -> OrderedDict[PickleValue, PickleValue]:
    made: OrderedDict[PickleValue, PickleValue] = OrderedDict(items)
    if isinstance(metadata, dict):
        made._metadata = metadata  # type: ignore[attr-defined]
    return made


def _array(told: list[JsonValue], data: bytes) -> PickleValue:
    import numpy as np

    code, shape, fortran, _ = told
    array = np.frombuffer(data, dtype=_number_type(code)).copy()
    return array[0] if shape is None else array.reshape(shape, order="F" if fortran else "C")


def _number_type(code: str) -> PickleValue:
    import numpy as np

    if not _NUMBER_TYPE.fullmatch(code):
        raise ValueError("a type that is no number")
    return np.dtype(code)


def _plain(kind: str, told: list[JsonValue]) -> PickleValue:
    if kind == "integer":
        return int(told[0], 16)
    if kind == "complex":
        return complex(*told)
    if kind == "bytes":
        return base64.b64decode(told[0])
    if kind == "type":
        return _number_type(told[0])
    raise ValueError(f"a node of kind {kind!r}"[:100])
