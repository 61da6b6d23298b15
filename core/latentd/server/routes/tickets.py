"""Tickets: passes for event streams that are opened without an ``Authorization`` header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Request, Response

from latentd.server.json_reply import SafeJSONResponse
from latentd.server.openapi import reply_of
from latentd.server.routing import APIRouter
from latentd.server.schemas.jobs import Ticket

if TYPE_CHECKING:
    from latentd.server.services import AppServices


def router(services: AppServices) -> APIRouter:
    """Route ``POST /latentd/v1/tickets``."""
    routes = APIRouter(tags=["jobs"])

    @routes.post(
        "/latentd/v1/tickets", operation_id="issue_ticket", openapi_extra={"x-scope": "read"}, **reply_of(Ticket)
    )
    async def issue(request: Request) -> Response:
        """A pass for event streams, for browsers: ``/latentd/v1/jobs/{id}/events?ticket=...`` asks for no header."""
        token = services.tickets.issue(getattr(request.state, "user", ""))
        reply = {"ticket": token, "expires_in": services.tickets.lifetime}
        return SafeJSONResponse(reply, headers={"Cache-Control": "no-store"})

    return routes
