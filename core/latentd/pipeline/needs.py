"""The server's services that the pipeline needs besides those of plugins: for planning, and on the worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeGuard

from latentd.plugins.hooks import Hooks
from latentd.plugins.registry import Registries
from latentd.services import Services

if TYPE_CHECKING:
    from latentd.conditioning.embeddings import EmbeddingStore
    from latentd.models.manager import ModelManager
    from latentd.networks.files import NetworkLibrary
    from latentd.options import OptionStore


class PlanningServices(Services, Protocol):
    """The services for planning; they may be used on any thread."""

    @property
    def models(self) -> ModelManager:
        """Checkpoints and VAEs by all their names."""

    @property
    def registry(self) -> Registries:
        """The registered items, with scripts and extra networks."""

    @property
    def networks(self) -> NetworkLibrary:
        """The files of the LoRA family."""

    @property
    def hypernetworks(self) -> Mapping[str, Path]:
        """Hypernetwork files by name."""


class WorkerServices(PlanningServices, Protocol):
    """The services for a running generation."""

    @property
    def options(self) -> OptionStore:
        """The option store, whose declarations say what goes into infotexts."""

    @property
    def hooks(self) -> Hooks:
        """The hooks of every plugin."""

    @property
    def embeddings(self) -> EmbeddingStore:
        """The textual-inversion embeddings."""


def for_planning(services: Services) -> PlanningServices:
    """``services`` with everything that planning needs.

    :raises TypeError: it is not this server's object, but one made by a plugin.
    """
    if not _can_plan(services):
        raise TypeError(f"{type(services).__name__} is not this server's services")
    return services


def for_worker(services: Services) -> WorkerServices:
    """As :func:`for_planning`, for work on the worker.

    :raises TypeError: it is an object made by a plugin, or one for planning only.
    """
    if not _can_work(services):
        raise TypeError(f"{type(services).__name__} does not carry generations out")
    return services


def _can_plan(services: Services) -> TypeGuard[PlanningServices]:
    return isinstance(services.registry, Registries)


def _can_work(services: Services) -> TypeGuard[WorkerServices]:
    return isinstance(getattr(services, "hooks", None), Hooks)
