"""The runner of a device that is driven by a thread of this process."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from latentd.errors import NotConfigured, OutOfMemory
from latentd.executors import DeviceTrouble, ExecutorJob
from latentd.models.devices import is_device_error
from latentd.types import JobControl, JsonValue

log = logging.getLogger(__name__)

T = TypeVar("T")


class LocalRunner:
    """Implements :class:`latentd.executors.Runner` for a device of this process.

    :param name: name of the device.
    :param prepare: called once on the worker before its first job (imports of torch and related packages).
    :param cleanup: called on the worker after each job.
    :param probe: computes something small on the device and raises an exception if the device is lost.
    """

    def __init__(
        self,
        name: str = "cpu",
        *,
        prepare: Callable[[], None] | None = None,
        cleanup: Callable[[], None] | None = None,
        probe: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._prepare = prepare
        self._cleanup = cleanup
        self._probe = probe

    @property
    def ready(self) -> bool:
        """True: there is nothing to start."""
        return True

    def prepare(self) -> None:
        """Import what the jobs need.

        :raises DeviceTrouble: the device does not exist.
        """
        if self._prepare is None:
            return
        try:
            self._prepare()
        except NotConfigured as error:
            raise DeviceTrouble(error.detail, lasting=True) from error
        except Exception:
            log.exception("preparing the worker of %s failed", self.name)
        freeze_heap()

    def run(self, job: ExecutorJob[T], work: Callable[[JobControl], T]) -> T:
        """The result of ``work(job)``."""
        return work(job)

    def diagnose(self, error: BaseException) -> DeviceTrouble | None:
        """Whether memory ran out, or the driver reported an error; the device is lost if it fails again when probed."""
        if isinstance(error, OutOfMemory):
            return DeviceTrouble(str(error), lasting=False)
        seen: BaseException | None = error
        while seen is not None and not is_device_error(seen):
            seen = seen.__cause__
        return None if seen is None else DeviceTrouble(f"{type(seen).__name__}: {seen}", lasting=self._is_lost())

    def _is_lost(self) -> bool:
        try:
            if self._probe is not None:
                self._probe()
        except Exception:
            log.exception("%s does not compute any more", self.name)
            return True
        return False

    def tidy(self) -> None:
        """Give memory back after a job."""
        if self._cleanup is None:
            return
        try:
            self._cleanup()
        except Exception:
            log.exception("cleaning up after a job failed")

    def close(self) -> None:
        """Nothing is held."""

    def memory(self) -> Mapping[str, Mapping[str, JsonValue]] | None:
        """None: it is this process's."""
        return None


@contextmanager
def collecting_later() -> Iterator[None]:
    """No garbage collection within the block, for imports.

    torch, diffusers and transformers make hundreds of thousands of objects and next to no garbage; going through them
    again and again takes an eighth of the time of importing them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def freeze_heap() -> None:
    """Exclude all present objects from garbage collection.

    With torch, diffusers and transformers imported, a full collection stops the interpreter, and so every request, for
    0.2 s (425,000 objects). Modules and classes are never freed, so this is done once, after the imports and before any
    model exists; models can still be collected.
    """
    gc.collect()
    gc.freeze()
