"""What the pipeline needs of the server beyond what plugins are promised: for planning, and on the worker."""

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
    """What planning needs; on any thread."""

    @property
    def models(self) -> ModelManager:
        """Checkpoints and VAEs by every name they go by."""

    @property
    def registry(self) -> Registries:
        """What plugins offer, scripts and extra networks too."""

    @property
    def networks(self) -> NetworkLibrary:
        """The files of the LoRA family."""

    @property
    def hypernetworks(self) -> Mapping[str, Path]:
        """Hypernetwork files by name."""


class WorkerServices(PlanningServices, Protocol):
    """What a generation needs while it runs."""

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
    """The server's own object behind what a plugin got.

    :raises TypeError: a plugin made it up.
    """
    if not _can_plan(services):
        raise TypeError(f"{type(services).__name__} is not this server's services")
    return services


def for_worker(services: Services) -> WorkerServices:
    """As :func:`for_planning`, for work on the worker.

    :raises TypeError: a plugin made it up, or got it for planning only.
    """
    if not _can_work(services):
        raise TypeError(f"{type(services).__name__} does not carry generations out")
    return services


def _can_plan(services: Services) -> TypeGuard[PlanningServices]:
    return isinstance(services.registry, Registries)


def _can_work(services: Services) -> TypeGuard[WorkerServices]:
    return isinstance(getattr(services, "hooks", None), Hooks)
