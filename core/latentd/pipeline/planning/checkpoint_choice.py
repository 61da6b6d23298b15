"""The checkpoint that a name in a request means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.errors import NotFound, near_matches

if TYPE_CHECKING:
    from latentd.models.files.checkpoints import CheckpointInfo
    from latentd.pipeline.needs import PlanningServices


def find_checkpoint(services: PlanningServices, name: str) -> CheckpointInfo:
    """The checkpoint that ``name`` means, fuzzily.

    :raises NotFound: no title contains it.
    """
    found = services.models.find(name)
    if found is None:
        titles = [c.title for c in services.models.checkpoints]
        raise NotFound(f"Could not find checkpoint with name {name}", hint=near_matches(name, titles))
    return found
