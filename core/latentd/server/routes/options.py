"""Options and command-line flags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Body

from latentd.pipeline.planning.limits import check_entries
from latentd.server.routing import APIRouter
from latentd.server.schemas.lenient import Dict
from latentd.settings import cmd_flags
from latentd.types import JsonValue

if TYPE_CHECKING:
    from latentd.server.services import AppServices


def router(services: AppServices) -> APIRouter:
    """Routes ``/sdapi/v1/options`` and ``/sdapi/v1/cmd-flags``."""
    routes = APIRouter(prefix="/sdapi/v1", tags=["options"])

    @routes.get("/options", name="get_config", response_model=None)
    async def get_options() -> dict[str, JsonValue]:
        """Every option with its value."""
        body: dict[str, JsonValue] = services.options.body()
        return body

    @routes.post("/options", name="set_config", openapi_extra={"x-scope": "admin"})
    async def set_options(body: Annotated[Dict, Body(examples=[{"CLIP_stop_at_last_layers": 2}])]) -> None:
        """Set options; the reply comes when a checkpoint or VAE that they name is loaded."""
        check_entries(body, "the request")
        await services.set_options(body)

    @routes.get("/cmd-flags", response_model=None)
    async def get_cmd_flags() -> dict[str, JsonValue]:
        """Every command-line flag with its value; no secrets."""
        return cmd_flags(services.settings)

    return routes
