"""A1111's global state: progress, interrupt, skip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Query
from pydantic import BaseModel

from latentd.engine.preview import PreviewCache
from latentd.engine.progress import api_progress, state_document
from latentd.executors import Executor
from latentd.server.routing import APIRouter
from latentd.types import JsonValue

if TYPE_CHECKING:
    from latentd.server.services import AppServices


class ProgressStateDocument(BaseModel):
    """What runs now; batches are called jobs here."""

    skipped: bool
    interrupted: bool
    stopping_generation: bool
    job: str
    job_count: int
    job_timestamp: str
    job_no: int
    sampling_step: int
    sampling_steps: int


class ProgressResponse(BaseModel):
    """Reply of ``/sdapi/v1/progress``."""

    progress: float
    eta_relative: float
    state: ProgressStateDocument
    current_image: str | None = None
    textinfo: str | None = None


def router(services: AppServices) -> APIRouter:
    """Routes ``/sdapi/v1/progress``, ``/interrupt`` and ``/skip``; none waits for the worker."""
    routes = APIRouter(prefix="/sdapi/v1", tags=["progress"])
    previews = PreviewCache()

    @routes.get("/progress", name="progressapi", response_model=ProgressResponse)
    async def progress(skip_current_image: bool = False, id_task: str | None = Query(None)) -> dict[str, JsonValue]:
        """Progress of what runs now, or of the job ``id_task``; zeros when idle."""
        engine: Executor = services.engine
        job = engine.get(id_task) if id_task else engine.current()
        state = engine.state() if job is None else job.progress
        done, eta = api_progress(state)
        image = None
        if job is not None and not skip_current_image:
            job.watch()
            format = str(services.options["samples_format"])
            image = await previews.text(job.id, state, format, services.encode_image)
        return {
            "progress": done,
            "eta_relative": eta,
            "state": state_document(state),
            "current_image": image,
            "textinfo": state.textinfo,
        }

    @routes.post("/interrupt", name="interruptapi")
    async def interrupt() -> dict[str, JsonValue]:
        """Stop sampling; the picture so far is returned by the request that asked for it."""
        services.engine.interrupt()
        return {}

    @routes.post("/skip")
    async def skip() -> None:
        """End the present batch and go on with the next."""
        services.engine.skip()

    return routes
