"""Tensors over the memory-mapped bytes of a file. Imports torch."""

from __future__ import annotations

import mmap
import warnings
from io import BufferedReader

import torch
from torch import Tensor

from latentd.models.files.pickles.rebuild import StoredBytes, TensorPlace
from latentd.models.files.pickles.stand_ins import ITEM_BYTES


class MappedTensors:
    """The tensors of one file, on the CPU; those of one storage share its memory, which maps the file.

    Writing to a tensor changes only the memory, not the file.

    :raises OSError: the file cannot be mapped.
    """

    def __init__(self, file: BufferedReader, storages: tuple[StoredBytes, ...]) -> None:
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._stored = storages
        self._storages: dict[int, torch.UntypedStorage] = {}

    def tensor(self, place: TensorPlace) -> Tensor:
        """The tensor at ``place``.

        :raises ValueError: it is not within the file.
        """
        if place.storage not in self._storages:
            self._storages[place.storage] = self._storage(self._stored[place.storage])
        storage = self._storages[place.storage]
        try:
            empty = torch.empty(0, dtype=getattr(torch, place.dtype))
            return empty.set_(storage, place.offset, place.shape, place.stride)
        except RuntimeError as error:
            raise ValueError(f"a tensor that cannot be: {error}") from error

    def data(self, stored: StoredBytes) -> bytes:
        """The bytes of one storage."""
        if isinstance(stored.place, bytes):
            return stored.place
        return self._map[stored.place : stored.place + stored.nbytes]

    def _storage(self, stored: StoredBytes) -> torch.UntypedStorage:
        if isinstance(stored.place, bytes) or stored.place + stored.nbytes > len(self._map):
            raise ValueError("a storage beyond the file")
        if not stored.nbytes:
            return torch.empty(0, dtype=torch.uint8).untyped_storage()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = torch.frombuffer(self._map, dtype=torch.uint8, count=stored.nbytes, offset=stored.place)
        # In files of torch before 1.6 storages begin anywhere, and some kernels cannot read unaligned numbers.
        return (data.clone() if stored.place % ITEM_BYTES[stored.dtype] else data).untyped_storage()
