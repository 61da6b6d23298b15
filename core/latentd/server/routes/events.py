"""Server-sent events: of one job until it has ended, and of all jobs for as long as the client listens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Header, HTTPException, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from latentd.engine.events import FINAL
from latentd.engine.job import WATCH_SECONDS
from latentd.engine.progress import job_document
from latentd.executors import Executor, ExecutorEvents, ExecutorJob
from latentd.server.openapi import event_stream
from latentd.server.routing import APIRouter
from latentd.server.schemas import jobs as schemas
from latentd.types import JsonValue

if TYPE_CHECKING:
    from latentd.server.services import AppServices

Ticket = Annotated[str | None, Query(description="A pass of POST /latentd/v1/tickets in place of credentials")]
LastEventId = Annotated[str | None, Header(description="Name of the last event that the client has heard, if final")]


def router(services: AppServices) -> APIRouter:
    """Routes ``/latentd/v1/jobs/{job_id}/events`` and ``/latentd/v1/events``; none waits for the worker."""
    routes = APIRouter(prefix="/latentd/v1", tags=["jobs"])
    _add_one(routes, services)
    _add_all(routes, services)
    return routes


def _add_one(routes: APIRouter, services: AppServices) -> None:
    async def subscription(
        job_id: str, response: Response, last_event_id: LastEventId = None
    ) -> AsyncIterator[ExecutorEvents]:
        response.headers["Cache-Control"] = "no-store"
        # A dependency runs before the stream begins, when an error can still be the reply.
        engine: Executor = services.engine
        job = engine.get(job_id)
        if last_event_id in FINAL:
            raise HTTPException(204)
        with engine.subscribe(job.id) as events:
            yield events

    @routes.get(
        "/jobs/{job_id}/events",
        operation_id="get_job_events",
        response_class=EventSourceResponse,
        responses={
            200: {"content": event_stream(schemas.JobEvent), "description": "Events until the job has ended."},
            204: {"description": "The client has heard the end already; an EventSource does not come again."},
        },
        openapi_extra={"x-ticket": True},
    )
    async def events(
        job_id: str, ticket: Ticket = None, heard: ExecutorEvents = Depends(subscription)
    ) -> AsyncIterator[ServerSentEvent]:
        """Server-sent events of one job: its present state, then each change until it has ended."""
        async for event in _events_of(services.engine.get(job_id), heard):
            yield event


def _add_all(routes: APIRouter, services: AppServices) -> None:
    async def subscription(response: Response) -> AsyncIterator[ExecutorEvents]:
        response.headers["Cache-Control"] = "no-store"
        with services.engine.subscribe() as events:
            yield events

    @routes.get(
        "/events",
        operation_id="get_events",
        response_class=EventSourceResponse,
        responses={200: {"content": event_stream(schemas.JobEvent), "description": "Events of every job."}},
        openapi_extra={"x-ticket": True},
    )
    async def events(
        ticket: Ticket = None, heard: ExecutorEvents = Depends(subscription)
    ) -> AsyncIterator[ServerSentEvent]:
        """Server-sent events of all jobs: those that wait or run as they are, then each change of any.

        A client that is so slow that it misses some is hung up on: when it comes again, it should list the jobs anew.
        """
        async for event in _events_of_all(services.engine, heard):
            yield event


async def _events_of(job: ExecutorJob[object], events: ExecutorEvents) -> AsyncIterator[ServerSentEvent]:
    document = job_document(job)
    name = _name_of(document)
    yield _event(name, document)
    while name not in FINAL:
        job.watch()
        if (event := await events.get(WATCH_SECONDS / 2)) is not None:
            name = event.name
            yield _event(name, event.data)


async def _events_of_all(engine: Executor, events: ExecutorEvents) -> AsyncIterator[ServerSentEvent]:
    # All at once: while one is being sent, others would change, and be told of both here and by their events.
    for document in [job_document(job, place) for job, place in engine.jobs() if not job.ended]:
        yield ServerSentEvent(event=_name_of(document), data=document)
    while not events.dropped:
        event = await events.get(WATCH_SECONDS)
        if event is not None:
            yield ServerSentEvent(event=event.name, data=event.data)
        elif events.ended:
            break


def _name_of(document: Mapping[str, JsonValue]) -> str:
    """The name of the event that brought a job into its present state."""
    return "started" if document["state"] == "running" else str(document["state"])


def _event(name: str, data: Mapping[str, JsonValue]) -> ServerSentEvent:
    # An EventSource sends the last id when it connects again; only the final event has one, so the job has ended.
    return ServerSentEvent(event=name, id=name if name in FINAL else None, data=data)
