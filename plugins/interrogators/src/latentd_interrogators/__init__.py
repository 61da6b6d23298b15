"""Interrogators for latentd: CLIP interrogation and taggers. This module imports neither torch nor transformers."""

from __future__ import annotations

from functools import partial

from latentd.api import InterrogatorSpec, Services, hookimpl
from latentd_interrogators import clip, deepdanbooru

__all__ = ["register_interrogators"]


@hookimpl
def register_interrogators(services: Services) -> list[InterrogatorSpec]:
    """``clip`` and ``deepdanbooru``, whether their weights are there or not."""
    return [
        InterrogatorSpec(name="clip", interrogate=partial(clip.interrogate, services=services)),
        InterrogatorSpec(
            name="deepdanbooru",
            aliases=("deepbooru",),
            interrogate=partial(deepdanbooru.interrogate, services=services),
        ),
    ]
