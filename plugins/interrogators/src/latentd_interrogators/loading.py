"""Models from the server's cache, dropped after use unless option ``interrogate_keep_models_in_memory`` is on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from latentd.api import WorkerContext

KIND = "interrogator"
_KEPT = 2  # caption and ranks


class Sized(Protocol):
    """A model that knows its size."""

    @property
    def nbytes(self) -> int:
        """Bytes of the model's weights."""


M = TypeVar("M", bound=Sized)


@contextmanager
def loaded(context: WorkerContext, path: Path, load: Callable[[], M]) -> Iterator[M]:
    """The model of ``path``, loaded by ``load`` unless it is still in the cache."""
    try:
        with context.lease(KIND, path, load, lambda model: model.nbytes, keep=_KEPT) as model:
            yield model
    finally:
        if context.services is not None and not context.options["interrogate_keep_models_in_memory"]:
            context.services.models.cache.drop(KIND)


def device_for(context: WorkerContext) -> str:
    """The device to compute on: the context's, or the CPU with ``--use-cpu interrogate`` (or ``all``)."""
    flags = context.services.settings.use_cpu if context.services is not None else ()
    return "cpu" if {part.lower() for part in flags} & {"all", "interrogate"} else context.device
