"""OpenAI's images API for latentd. Nothing heavy is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.api import JsonValue, OptionSpec, Services, hookimpl
from latentd_openai.errors import translated

if TYPE_CHECKING:
    from fastapi import APIRouter

__all__ = ["error_reply", "register_options", "register_routes"]


@hookimpl
def register_options() -> list[OptionSpec]:
    """What OpenAI's requests leave to the server."""
    section = "OpenAI's images API"
    return [
        OptionSpec(
            key="openai_steps",
            default=20,
            minimum=1,
            maximum=150,
            help="Sampling steps of /v1/images at medium quality; low has half as many, high half as many again.",
            section=section,
        ),
        OptionSpec(
            key="openai_sampler",
            default="DPM++ 2M Karras",
            help="Sampler of /v1/images where the request names none.",
            section=section,
        ),
        OptionSpec(
            key="openai_negative_prompt",
            default="",
            help="Negative prompt of /v1/images where the request has none.",
            section=section,
        ),
    ]


@hookimpl
def register_routes(services: Services) -> list[APIRouter]:
    """The routes below ``/v1``."""
    from latentd_openai.routes import router

    return [router(services)]


@hookimpl
def error_reply(path: str, status: int, document: JsonValue) -> tuple[int, JsonValue] | None:
    """OpenAI's body and status for every error below ``/v1``."""
    return translated(path, status, document) if path.startswith("/v1/") else None
