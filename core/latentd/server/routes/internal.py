"""Routes below ``/internal`` that clients of A1111's web page use: one task's progress, the queue, the system."""

from __future__ import annotations

import asyncio
import json
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from latentd.engine.preview import PreviewCache
from latentd.engine.progress import internal_progress
from latentd.executors import Executor
from latentd.server.routing import APIRouter
from latentd.server.schemas.lenient import Bool, Int, LenientModel, Str
from latentd.types import JsonValue

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.server.services import AppServices


class TaskProgressRequest(LenientModel):
    """Body of ``/internal/progress``. ``id_live_preview`` is the preview the client shows already."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id_task": "task(7q2zk4m)", "id_live_preview": -1}]})

    id_task: Str | None = None
    id_live_preview: Int | None = -1
    live_preview: Bool | None = True


class TaskProgressResponse(BaseModel):
    """Reply of ``/internal/progress``. ``live_preview`` is a data URL, null when there is nothing newer."""

    active: bool
    queued: bool
    completed: bool
    progress: float | None = None
    eta: float | None = None
    live_preview: str | None = None
    id_live_preview: int | None = None
    textinfo: str | None = None


class PendingTasks(BaseModel):
    """Reply of ``/internal/pending-tasks``."""

    size: int
    tasks: list[str] = Field(description="Their ids, next first.")


class OptionLabel(BaseModel):
    """One row of ``/internal/quicksettings-hint``."""

    name: str
    label: str


class StartupProfile(BaseModel):
    """Reply of ``/internal/profile-startup``, in seconds."""

    total: float
    records: dict[str, float]


def router(services: AppServices) -> APIRouter:
    """Routes ``/internal/progress``, ``/pending-tasks``, ``/ping``, ``/quicksettings-hint``, ``/sysinfo`` and so on."""
    routes = APIRouter(prefix="/internal", tags=["internal"])
    tasks = _Tasks(services)

    @routes.post("/progress", response_model=TaskProgressResponse, openapi_extra={"x-scope": "read"})
    async def progress(body: TaskProgressRequest) -> TaskProgressResponse:
        """How far the task is: in the queue, active or completed."""
        return await tasks.progress(body)

    @routes.get("/pending-tasks", response_model=PendingTasks)
    async def pending_tasks() -> dict[str, JsonValue]:
        """The ids of the tasks that wait, next first."""
        waiting = services.engine.pending()
        return {"size": len(waiting), "tasks": waiting}

    @routes.get("/ping")
    async def ping() -> dict[str, JsonValue]:
        """An empty object: the server lives."""
        return {}

    @routes.get("/quicksettings-hint", response_model=list[OptionLabel])
    async def quicksettings_hint() -> list[dict[str, str]]:
        """Name and label of every option."""
        return [{"name": spec.key, "label": spec.help} for spec in services.options.specs()]

    @routes.get("/sysinfo", openapi_extra={"x-scope": "admin"})
    async def sysinfo() -> Response:
        """Facts on the installation, as JSON text."""
        return await _sysinfo_reply(services, "inline")

    @routes.get("/sysinfo-download", openapi_extra={"x-scope": "admin"})
    async def sysinfo_download() -> Response:
        """The same as a file."""
        return await _sysinfo_reply(services, "attachment")

    @routes.get("/profile-startup", response_model=StartupProfile)
    async def profile_startup() -> dict[str, JsonValue]:
        """Seconds that the parts of the start took."""
        records = dict(services.startup_seconds)
        return {"total": sum(records.values()), "records": records}

    return routes


class _Tasks:
    """Answers ``/internal/progress``; each preview is encoded only once for all clients."""

    def __init__(self, services: AppServices) -> None:
        self._services = services
        self._previews = PreviewCache()

    async def progress(self, body: TaskProgressRequest) -> TaskProgressResponse:
        engine: Executor = self._services.engine
        job = engine.current()
        if job is None or job.id != body.id_task:
            return _inactive(engine, body.id_task)
        done, eta = internal_progress(job.progress)
        shown = body.id_live_preview
        picture = None
        if body.live_preview and self._services.options["live_previews_enable"]:
            job.watch()
            if job.progress.preview_id != shown:
                number = job.progress.preview_id
                picture = await self._previews.text(job.id, job.progress, *self._encoder())
                shown = shown if picture is None else number
        return TaskProgressResponse(
            active=True,
            queued=False,
            completed=False,
            progress=done,
            eta=eta,
            live_preview=picture,
            id_live_preview=shown,
            textinfo=job.progress.textinfo,
        )

    def _encoder(self) -> tuple[str, Callable[[Image], Awaitable[str]]]:
        format = str(self._services.options["live_previews_image_format"])

        async def encode(image: Image) -> str:
            from latentd.images.codecs import encode_base64

            text = await asyncio.to_thread(partial(encode_base64, image, format=format))
            return f"data:image/{format};base64,{text}"

        return format, encode


def _inactive(engine: Executor, task_id: str | None) -> TaskProgressResponse:
    waiting = engine.pending()
    queued = task_id in waiting
    text = f"In queue: {waiting.index(task_id) + 1}/{len(waiting)}" if task_id and queued else "Waiting..."
    return TaskProgressResponse(
        active=False, queued=queued, completed=task_id in engine.finished(), id_live_preview=-1, textinfo=text
    )


async def _sysinfo_reply(services: AppServices, disposition: str) -> Response:
    text = await asyncio.to_thread(_sysinfo, services)
    name = time.strftime("sysinfo-%Y-%m-%d-%H-%M.json", time.gmtime())
    return Response(
        text,
        media_type="application/json",
        headers={"Content-Disposition": f'{disposition}; filename="{name}"'},
    )


def _sysinfo(services: AppServices) -> str:
    """Facts on the installation as JSON text, without secret settings. Does not import torch."""
    installed = sorted({f"{d.metadata['Name']}=={d.version}" for d in metadata.distributions() if d.metadata["Name"]})
    from latentd.settings.cmd_flags import cmd_flags

    facts = {
        "Platform": platform.platform(),
        "Python": sys.version,
        "Version": _version(),
        "Commandline flags": cmd_flags(services.settings),
        "Config": services.options.body(),
        "Packages": installed,
    }
    return json.dumps(facts, indent=4, default=str)


def _version() -> str | None:
    try:
        return metadata.version("latentd")
    except metadata.PackageNotFoundError:
        return None
