"""A plan for another request under the options of one that is being carried out: for scripts of several generations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentd.errors import TooLarge
from latentd.options import Snapshot
from latentd.pipeline.plan import Plan
from latentd.pipeline.planning import build_plan
from latentd.types import GenerationRequest

MEGAPIXEL = 1_000_000


def replan(plan: Plan, request: GenerationRequest, services: Any) -> Plan:
    """The plan for ``request``, a changed copy of ``plan.request``, without the selectable script.

    :raises LatentdError: as :func:`latentd.pipeline.planning.build_plan`; TooLarge over the server's bounds.
    """
    changed = build_plan(request, _Frozen(services, plan.options))
    check_plan_bounds(changed, services.settings)
    return changed


def check_plan_bounds(plan: Plan, settings: Any) -> None:
    """Refuse a plan beyond what the flags let a request ask for; scripts may get there by their own arguments.

    :raises TooLarge: naming the flag.
    """
    sizes = [(plan.width, plan.height), *([plan.hires.final_size] if plan.hires else [])]
    for width, height in sizes:
        if width * height > settings.max_image_mp * MEGAPIXEL:
            raise TooLarge(f"{width}x{height} is over {settings.max_image_mp} megapixels", hint="--max-image-mp")
    if max(plan.steps, plan.hires.steps if plan.hires else 0) > settings.max_steps:
        raise TooLarge(f"more than {settings.max_steps} steps are over the limit", hint="--max-steps")
    if len(plan.prompts) > settings.max_images:
        raise TooLarge(f"{len(plan.prompts)} images are over the limit of {settings.max_images}", hint="--max-images")


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
