"""The checkpoint that a name in a request means."""

from __future__ import annotations

from typing import Any

from latentd.errors import NotFound, near_matches


def find_checkpoint(services: Any, name: str) -> str:
    """The title of the checkpoint that ``name`` means, fuzzily.

    :raises NotFound: no title contains it.
    """
    found = services.models.find(name)
    if found is None:
        titles = [c.title for c in services.models.checkpoints]
        raise NotFound(f"Could not find checkpoint with name {name}", hint=near_matches(name, titles))
    return str(found.title)
