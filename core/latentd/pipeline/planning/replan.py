"""A plan for another request under the options of one that is being carried out: for scripts of several generations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentd.generations import Plan
from latentd.options import Snapshot
from latentd.pipeline.planning.build import build_plan
from latentd.types import GenerationRequest


def replan(plan: Plan, request: GenerationRequest, services: Any) -> Plan:
    """The plan for ``request``, a changed copy of ``plan.request``, without the selectable script.

    :raises LatentdError: as :func:`latentd.pipeline.planning.build.build_plan`.
    """
    return build_plan(request, _Frozen(services, plan.options))


class _Frozen:
    """The services with the options as they were when the job was planned."""

    def __init__(self, services: Any, options: Mapping[str, Any]) -> None:
        self._services = services
        self.options = _FrozenOptions(services.options, options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._services, name)


class _FrozenOptions:
    def __init__(self, store: Any, options: Mapping[str, Any]) -> None:
        self._store = store
        self._options = options

    def __getitem__(self, key: str) -> Any:
        return self._options[key]

    def snapshot(self, overrides: Mapping[str, Any] | None = None) -> Snapshot:
        accepted = self._store.snapshot(overrides)
        # An override that equals the store's value of now may still differ from that of the job.
        named = {key: accepted[key] for key in {*(overrides or {}), *accepted.overrides} if key in accepted}
        kept = {**getattr(self._options, "overrides", {}), **named}
        return Snapshot(self._options, kept, ignored=accepted.ignored)
