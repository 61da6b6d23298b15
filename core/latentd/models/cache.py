"""The cache of all loaded models: leases, a budget in bytes and limits by kind.

If room is needed, the least recently used model is dropped first. This module imports no torch: the cache knows only
names, sizes and ages.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from latentd.model_services import CacheReport
from latentd.models.devices import free_cache

T = TypeVar("T")
log = logging.getLogger(__name__)

Key = tuple[Hashable, ...]
"""The key of a model; its first item is the kind: ``("checkpoint", path, stamp)``."""

Observer = Callable[[str, str], None]


@dataclass(slots=True)
class _Entry:
    value: Any  # of the type that its ``load`` gives
    size: int
    leases: int = 0
    used: int = 0


class ModelCache:
    """Loaded models by kind and key. Models are loaded under one lock, so that none is loaded twice.

    :param budget: bytes that all models together should not exceed; None for no bound. A leased model is never dropped
        for it.
    :param limits: kind → how many models of the kind stay loaded.
    :param observer: called with the file or name, and ``loaded`` or ``unloaded``.
    :ivar hits: how often a model that was asked for was loaded already. :ivar loads: how often it had to be loaded.
    """

    def __init__(
        self, *, budget: int | None = None, limits: Mapping[str, int] | None = None, observer: Observer | None = None
    ) -> None:
        self.budget = budget
        self._limits = dict(limits or {})
        self.observer = observer
        self._entries: dict[Key, _Entry] = {}
        self._clock = 0
        self.hits = self.loads = 0
        self._lock = threading.RLock()

    @contextmanager
    def lease(self, key: Key, load: Callable[[], T], size: int | Callable[[T], int]) -> Iterator[T]:
        """A context manager for the model under ``key``, which is loaded if needed and kept until the block is left.

        :param size: its bytes, or a function that returns them for the loaded model.
        """
        entry = self._acquire(key, load, size)
        try:
            yield entry.value
        finally:
            with self._lock:
                entry.leases -= 1
                self._trim()

    def get(self, key: Key, load: Callable[[], T], size: int | Callable[[T], int] = 0) -> T:
        """The model under ``key``; unlike a leased model, it may be dropped from the cache while it is used."""
        with self.lease(key, load, size) as value:
            return value

    def limit(self, kind: str, count: int) -> None:
        """Keep at most ``count`` (at least one) models of ``kind`` from now on."""
        with self._lock:
            self._limits[kind] = max(1, count)
            self._trim()

    def drop(self, kind: str) -> int:
        """Drop the models of ``kind``, except leased ones; returns how many were dropped."""
        with self._lock:
            keys = [key for key, entry in self._entries.items() if key[0] == kind and not entry.leases]
            for found in keys:
                self._remove(found)
            return len(keys)

    def clear(self) -> None:
        """Drop all models that are not leased."""
        for kind in {str(key[0]) for key in self._entries}:
            self.drop(kind)

    @property
    def nbytes(self) -> int:
        """Bytes of all loaded models."""
        return sum(entry.size for entry in self._entries.values())

    def report(self) -> CacheReport:
        """What it holds, and how it has been used."""
        found = CacheReport(hits=self.hits, loads=self.loads)
        for key, entry in list(self._entries.items()):
            found += CacheReport(usage={str(key[0]): (1, entry.size)})
        return found

    def loaded(self, kind: str) -> list[Any]:  # of the kind's own type
        """The loaded models of ``kind``, the most recently used last."""
        entries = [entry for key, entry in list(self._entries.items()) if key[0] == kind]
        return [e.value for e in sorted(entries, key=lambda e: e.used)]

    def idle(self, kind: str) -> list[Any]:  # of the kind's own type
        """The loaded models of ``kind`` that are not leased."""
        return [entry.value for key, entry in self._entries.items() if key[0] == kind and not entry.leases]

    def _acquire(self, key: Key, load: Callable[[], T], size: int | Callable[[T], int]) -> _Entry:
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self.hits += 1
            else:
                self.loads += 1
                self._make_room(str(key[0]))
                start = time.monotonic()
                value = load()
                entry = _Entry(value, size(value) if callable(size) else size)
                self._entries[key] = entry
                seconds = time.monotonic() - start
                log.info("loaded %s in %.1f s (%.0f MiB)", _label(key), seconds, entry.size / 2**20)
                self._tell(key, "loaded")
            self._clock += 1
            entry.used = self._clock
            entry.leases += 1
            self._trim()
            return entry

    def _make_room(self, kind: str) -> None:
        """Drop models of ``kind`` until one more is within the limit, before it is loaded and both need memory."""
        limit = self._limits.get(kind)
        while limit is not None and self._count(kind) >= limit and self._drop_oldest(kind):
            pass

    def _trim(self) -> None:
        for kind, limit in self._limits.items():
            while self._count(kind) > limit and self._drop_oldest(kind):
                pass
        while self.budget is not None and self.nbytes > self.budget and self._drop_oldest(None):
            pass

    def _count(self, kind: str) -> int:
        return sum(1 for key in self._entries if key[0] == kind)

    def _drop_oldest(self, kind: str | None) -> bool:
        """Drop the oldest unleased model (of ``kind``); returns whether there was one."""
        free = [(e.used, k) for k, e in self._entries.items() if not e.leases and kind in (None, k[0])]
        if not free:
            return False
        self._remove(min(free, key=lambda item: item[0])[1])
        return True

    def _remove(self, key: Key) -> None:
        entry = self._entries.pop(key)
        size = entry.size
        del entry
        free_cache()
        log.info("dropped %s (%.0f MiB)", _label(key), size / 2**20)
        self._tell(key, "unloaded")

    def _tell(self, key: Key, event: str) -> None:
        if self.observer is None:
            return
        try:
            self.observer(_label(key), event)
        except Exception:  # the failure of an observer must not prevent loading
            log.exception("a model observer failed")


def _label(key: Key) -> str:
    """The name of a model in logs and events: its kind and file."""
    return " ".join([str(key[0]), *(Path(part).name for part in key[1:2] if isinstance(part, str))])
