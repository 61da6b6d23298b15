"""Interrogators for latentd: CLIP interrogation and taggers. This module imports neither torch nor transformers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from latentd.api import InterrogatorSpec, OptionSpec, Services, hookimpl
from latentd_interrogators import clip, deepdanbooru

if TYPE_CHECKING:
    from latentd.api import APIRouter

__all__ = ["register_interrogators", "register_options", "register_routes"]


@hookimpl
def register_options() -> list[OptionSpec]:
    """How the tagger's routes write what they have found."""
    return [
        OptionSpec(
            key="tagger_caption_form",
            default="grouped",
            choices=("grouped", "flat"),
            help="scores of /tagger/v1/interrogate: in rating and tag, or (as early tagger extensions) in one object",
            affects="interrogation",
        )
    ]


@hookimpl
def register_routes(services: Services) -> list[APIRouter]:
    """Routes ``/tagger/v1/...``."""
    from latentd_interrogators.tagger_routes import router

    return [router(services)]


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
