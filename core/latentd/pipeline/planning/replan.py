"""Planning further generations of a script with the options of the job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.generations import Plan
from latentd.options import Snapshot
from latentd.pipeline.planning.build import build_plan
from latentd.types import GenerationRequest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from latentd.job_services import Queue
    from latentd.pipeline.needs import PlanningServices
    from latentd.services import Embeddings, Options
    from latentd.types import JsonValue, OptionValues


def replan(plan: Plan, request: GenerationRequest, services: PlanningServices) -> Plan:
    """The plan for ``request``, a changed copy of ``plan.request``, without the selectable script.

    :raises LatentdError: as :func:`latentd.pipeline.planning.build.build_plan`.
    """
    return build_plan(request, _Frozen(services, plan.options))


class _Frozen:
    """The services with the options as they were when the job was planned: :class:`PlanningServices`."""

    def __init__(self, services: PlanningServices, options: Snapshot) -> None:
        self._services = services
        self.options = _FrozenOptions(services.options, options)
        self.settings, self.paths = services.settings, services.paths
        self.serves_http = services.serves_http
        self.models, self.registry = services.models, services.registry
        self.styles, self.networks = services.styles, services.networks
        self.generate = services.generate
        self.run_on_worker, self.run_in_thread = services.run_on_worker, services.run_in_thread
        self.decode_image, self.decode_image_now = services.decode_image, services.decode_image_now
        self.image_decoder, self.encode_image = services.image_decoder, services.encode_image
        self.submit_work, self.worker_context = services.submit_work, services.worker_context
        self.submit = services.submit
        self.refresh_networks = services.refresh_networks

    @property
    def queue(self) -> Queue:
        return self._services.queue

    @property
    def embeddings(self) -> Embeddings:
        return self._services.embeddings

    @property
    def hypernetworks(self) -> Mapping[str, Path]:
        return self._services.hypernetworks


class _FrozenOptions:
    def __init__(self, store: Options, options: Snapshot) -> None:
        self._store = store
        self._options = options

    def __getitem__(self, key: str) -> JsonValue:
        return self._options[key]

    def snapshot(self, overrides: OptionValues | None = None) -> Snapshot:
        accepted = self._store.snapshot(overrides)
        # An override that equals the store's value of now may still differ from that of the job.
        named = {key: accepted[key] for key in {*(overrides or {}), *accepted.overrides} if key in accepted}
        kept = {**self._options.overrides, **named}
        return Snapshot(self._options, kept, ignored=accepted.ignored)
