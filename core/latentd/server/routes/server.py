"""The server itself: health, plugins, memory, stopping."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi import Response
from starlette.responses import PlainTextResponse

from latentd import __version__
from latentd.models.devices import cpu_threads, memory_report
from latentd.models.memory_sums import together
from latentd.server.openapi import reply_of
from latentd.server.routing import APIRouter
from latentd.server.schemas.lists import MemoryResponse
from latentd.server.schemas.server import Liveness, PluginList, PrecisionReport, Readiness
from latentd.settings import Settings
from latentd.types import JsonValue

if TYPE_CHECKING:
    from latentd.server.services import AppServices

_PUBLIC: dict[str, JsonValue] = {"x-public": True}
_ADMIN: dict[str, JsonValue] = {"x-scope": "admin"}


def router(services: AppServices) -> APIRouter:
    """Routes that are about the process; those that end it only with ``--api-server-stop``."""
    routes = APIRouter(tags=["server"])
    _add_health(routes, services)
    _add_facts(routes, services)
    settings: Settings = services.settings
    if settings.api_server_stop:
        _add_stops(routes, services)
    return routes


def _add_health(routes: APIRouter, services: AppServices) -> None:
    @routes.get("/livez", operation_id="get_liveness", openapi_extra=_PUBLIC, **reply_of(Liveness))
    async def livez() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @routes.get(
        "/readyz",
        operation_id="get_readiness",
        openapi_extra=_PUBLIC,
        response_model=None,
        responses={200: {"model": Readiness}, 503: {"model": Readiness, "description": "Generations would fail."}},
    )
    async def readyz(response: Response) -> dict[str, JsonValue]:
        """Whether generations can be served: 200, or 503 with the reasons. What else has failed is named, no more."""
        problems = await services.run_in_thread(services.problems)
        response.status_code = 503 if problems else 200
        return {
            "status": "unready" if problems else "ok",
            "problems": problems,
            "failed_plugins": sorted(services.host.problems()),
            "failed_devices": services.failed_devices(),
        }

    @routes.get("/app_id", include_in_schema=False)
    async def app_id() -> dict[str, int]:
        """A number that changes when the server starts anew."""
        return {"app_id": services.app_id}

    @routes.get("/login_check", include_in_schema=False)
    @routes.get("/login_check/", include_in_schema=False)
    async def login_check() -> None:
        """200 where the caller may use the server; authentication says 401 otherwise."""


def _add_facts(routes: APIRouter, services: AppServices) -> None:
    @routes.get("/latentd/v1/plugins", operation_id="list_plugins", **reply_of(PluginList))
    async def plugins() -> dict[str, JsonValue]:
        """Every plugin: its state, what it contributes, and the traceback where it failed."""
        return {"version": __version__, "plugins": services.host.report()}

    @routes.get("/latentd/v1/precision", operation_id="get_precision", **reply_of(PrecisionReport))
    async def precision() -> dict[str, JsonValue]:
        """Dtype and memory layout of every loaded model's parts, and with `--dtype auto` what was measured."""
        return {"threads": cpu_threads(), "models": services.models.precision_report()}

    @routes.get("/sdapi/v1/memory", name="get_memory", response_model=MemoryResponse)
    async def memory() -> Mapping[str, JsonValue]:
        """Memory of the server's processes and of its GPUs, in bytes."""
        others = [place.memory for place in services.engine.places() if place.memory]
        return await asyncio.to_thread(lambda: together(memory_report(), *others))


def _add_stops(routes: APIRouter, services: AppServices) -> None:
    prefix = "/sdapi/v1"

    @routes.post(f"{prefix}/server-kill", openapi_extra=_ADMIN)
    async def server_kill() -> None:
        """End the process at once."""
        services.exit("kill")

    @routes.post(f"{prefix}/server-restart", openapi_extra=_ADMIN)
    async def server_restart() -> Response:
        """Restart where a supervisor does that, else 501."""
        return Response(status_code=200 if services.exit("restart") else 501)

    @routes.post(f"{prefix}/server-stop", response_class=PlainTextResponse, openapi_extra=_ADMIN)
    async def server_stop() -> Response:
        """Finish what runs and stop."""
        services.exit("stop")
        return PlainTextResponse("Stopping.")
