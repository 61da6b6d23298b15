"""The original's routes ``/adetailer/v1/...``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from latentd.api import APIRouter, JsonValue, Services
from latentd_detailer.finding import names
from latentd_detailer.infotext import VERSION
from latentd_detailer.unit import Unit

if TYPE_CHECKING:
    from collections.abc import Mapping


class DetailerVersion(BaseModel):
    """The version of the original whose arguments and infotexts these are."""

    version: str


class DetailerModels(BaseModel):
    """The names that a unit's ``ad_model`` may have."""

    ad_model: list[str] = Field(description="Files of models/adetailer, and the detectors of plugins.")


class UnitSchema(BaseModel):
    """The JSON schema of a unit."""

    model_config = ConfigDict(extra="allow")

    title: str
    type: str
    properties: dict[str, JsonValue]


def router(services: Services) -> APIRouter:
    """The routes."""
    from latentd.api import reply_of

    routes = APIRouter(prefix="/adetailer/v1", tags=["adetailer"])

    @routes.get("/version", **reply_of(DetailerVersion))
    async def version() -> dict[str, str]:
        """Version of these arguments."""
        return {"version": VERSION}

    @routes.get("/schema", **reply_of(UnitSchema))
    async def schema() -> Mapping[str, JsonValue]:
        """JSON schema of a unit."""
        return Unit.model_json_schema()

    @routes.get("/ad_model", **reply_of(DetailerModels))
    async def ad_model() -> dict[str, list[str]]:
        """The detectors."""
        return {"ad_model": await services.run_in_thread(lambda: names(services))}

    return routes
