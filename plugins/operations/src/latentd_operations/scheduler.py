"""The queue as agent-scheduler shows it (source: the API of sd-webui-agent-scheduler).

What is in the queue are the server's jobs, whoever handed them in; what only agent-scheduler knows of a task (its name,
a bookmark, its parameters) is there for tasks that came by these routes. The answer for an unknown task has ``success``
false.
"""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING
from uuid import uuid4

from fastapi import Request
from pydantic import BaseModel, Field

from latentd.api import (
    Img2ImgRequest,
    JsonValue,
    LatentdError,
    LenientStr,
    NotFound,
    Services,
    Txt2ImgRequest,
    WorkJob,
    queue_generation,
)
from latentd_operations.tasks import STATUS, Kind, Task, Tasks, pictures_of, png

if TYPE_CHECKING:
    from latentd_operations.webhooks import Webhooks

Job = WorkJob[object]
#: The kinds of jobs that are tasks.
_KINDS = ("txt2img", "img2img")
#: Parameters that the documents of tasks leave out: long ones.
_LEFT_OUT = frozenset(("alwayson_scripts", "script_args", "init_images", "mask", "latent_mask", "firstpass_image"))
_OWN = ("checkpoint", "vae", "callback_url")


class Txt2ImgTask(Txt2ImgRequest):
    """txt2img's body with what a task may have beside."""

    schema_name = "Txt2ImgApiTaskArgs"
    checkpoint: LenientStr | None = Field(None, description="The checkpoint, for this task alone.")
    vae: LenientStr | None = Field(None, description="The VAE, for this task alone.")
    callback_url: LenientStr | None = Field(None, description="Where its pictures are sent; the host must be allowed.")


class Img2ImgTask(Img2ImgRequest):
    """img2img's body with what a task may have beside."""

    schema_name = "Img2ImgApiTaskArgs"
    checkpoint: LenientStr | None = Field(None, description="The checkpoint, for this task alone.")
    vae: LenientStr | None = Field(None, description="The VAE, for this task alone.")
    callback_url: LenientStr | None = Field(None, description="Where its pictures are sent; the host must be allowed.")


class QueueTaskResponse(BaseModel):
    """Where a task is."""

    task_id: str


class TaskModel(BaseModel):
    """A task; times are milliseconds of Unix time in lists, and texts in ISO 8601 in the document of one task."""

    id: str
    api_task_id: str | None = None
    api_task_callback: str | None = None
    name: str | None = None
    type: str
    status: str
    params: dict[str, JsonValue]
    priority: int
    position: int | None = None
    result: str | None = None
    bookmarked: bool = False
    created_at: int | str
    updated_at: int | str


class QueueStatusResponse(BaseModel):
    """The queue."""

    current_task_id: str | None
    pending_tasks: list[TaskModel]
    total_pending_tasks: int
    paused: bool


class HistoryResponse(BaseModel):
    """What has ended, the newest first."""

    tasks: list[TaskModel]
    total: int


class TaskMessage(BaseModel):
    """What became of a change."""

    success: bool
    message: str


class TaskAnswer(BaseModel):
    """One task, or why there is none."""

    success: bool
    data: TaskModel | None = None
    message: str | None = None


class TaskPlace(BaseModel):
    """Where a task is."""

    status: str
    position: int | None


class TaskPositionAnswer(BaseModel):
    """The place of one task, or why there is none."""

    success: bool
    data: TaskPlace | None = None
    message: str | None = None


class TaskPicture(BaseModel):
    """One picture of a task."""

    image: str = Field(description="A data URL of a PNG file.")
    infotext: str | None


class TaskResultsAnswer(BaseModel):
    """The pictures of one task, or why there are none."""

    success: bool
    data: list[TaskPicture] | None = None
    message: str | None = None


class UpdateTaskArgs(BaseModel):
    """What may be changed of a task."""

    name: str | None = None
    checkpoint: str | None = None
    params: dict[str, JsonValue] | None = None


class Scheduler:
    """agent-scheduler's view of the queue."""

    def __init__(self, services: Services, tasks: Tasks, webhooks: Webhooks) -> None:
        self._services = services
        self._tasks = tasks
        self._webhooks = webhooks

    # --- queueing ----------------------------------------------------------------------------------------------------

    async def submit(self, body: Txt2ImgTask | Img2ImgTask, request: Request) -> str:
        """The id of the queued task.

        :raises LatentdError: what planning finds; a callback_url that is not allowed.
        """
        kind: Kind = "txt2img" if isinstance(body, Txt2ImgTask) else "img2img"
        fields = body.model_dump(exclude_unset=True)
        warnings = body.unknown_warnings
        return await self._submit(kind, fields, request, warnings)

    async def _submit(self, kind: Kind, fields: dict[str, JsonValue], request: Request, warnings: Sequence[str]) -> str:
        if url := fields.get("callback_url"):
            self._webhooks.check(str(url))
        overrides = dict(fields.get("override_settings") or {})
        if fields.get("checkpoint"):
            overrides["sd_model_checkpoint"] = fields["checkpoint"]
        if fields.get("vae"):
            overrides["sd_vae"] = fields["vae"]
        task_id = str(uuid4())
        plain = {name: value for name, value in fields.items() if name not in _OWN}
        plain |= {"override_settings": overrides, "force_task_id": task_id}
        shown = {name: value for name, value in fields.items() if name not in _LEFT_OUT and name not in _OWN}
        shown["checkpoint"] = fields.get("checkpoint")
        # The task is known before its job, which may end at once.
        self._tasks.add(Task(id=task_id, kind=kind, body=fields, params=shown, callback_url=url or None))
        model: type[Txt2ImgRequest | Img2ImgRequest] = Txt2ImgRequest if kind == "txt2img" else Img2ImgRequest
        try:
            await queue_generation(self._services, model.model_validate(plain), request, warnings=warnings)
        except BaseException:
            self._tasks.remove(task_id)
            raise
        return task_id

    async def requeue(self, task_id: str, request: Request) -> dict[str, JsonValue]:
        """Queue a task again under a new id."""
        task = self._tasks.get(task_id)
        if task is None:
            return refused("Task not found")
        if task.body is None:
            return refused("The task's parameters are kept no longer")
        again = self._tasks.get(await self._submit(task.kind, task.body, request, ()))
        if again is not None and task.name:
            again.name = f"Copy of {task.name}"
        return succeeded("Task requeued")

    # --- reading -----------------------------------------------------------------------------------------------------

    def jobs(self) -> list[tuple[Job, int]]:
        """Every task's job with its place in the queue, oldest first."""
        return [(job, place) for job, place in self._services.queue.jobs() if job.kind in _KINDS]

    def job(self, task_id: str) -> Job | None:
        """The job of a task."""
        try:
            job = self._services.queue.get(task_id)
        except NotFound:
            return None
        return job if job.kind in _KINDS else None

    def document(self, job: Job, *, position: int | None = None, one: bool = False) -> dict[str, JsonValue]:
        """The task of a job."""
        task = self._tasks.get(job.id)
        times = [int(stamp * 1000) for stamp in (job.created, job.finished or job.started or job.created)]
        shown = [_iso(time) for time in times] if one else times
        return TaskModel(
            id=job.id,
            api_task_callback=task.callback_url if task else None,
            name=task.name if task else None,
            type=job.kind,
            status=STATUS[job.status],
            params=dict(task.params) if task else dict(job.meta),
            priority=times[0],
            position=position,
            result=self._result(job),
            bookmarked=bool(task and task.bookmarked),
            created_at=shown[0],
            updated_at=shown[1],
        ).model_dump()

    def _result(self, job: Job) -> str | None:
        if job.error is not None:
            return str(job.error)
        pictures = pictures_of(job)
        if not pictures:
            return None
        images = [f"/latentd/v1/jobs/{job.id}/images/{index}" for index in range(len(pictures))]
        return json.dumps({"images": images, "infotexts": [picture.infotext for picture in pictures]})

    def queue(self, limit: int, offset: int) -> dict[str, JsonValue]:
        """The document of the queue."""
        jobs = self.jobs()
        waiting = sorted(((place, job) for job, place in jobs if place), key=lambda entry: entry[0])
        running = [job.id for job, _ in jobs if job.status == "running"]
        page = waiting[offset : offset + limit]
        return {
            "current_task_id": running[-1] if running else None,
            "pending_tasks": [self.document(job, position=offset + at) for at, (_, job) in enumerate(page)],
            "total_pending_tasks": len(waiting),
            "paused": self._services.queue.paused,
        }

    def history(self, status: str | None, limit: int, offset: int) -> dict[str, JsonValue]:
        """The document of what has ended."""
        ended = [job for job, _ in reversed(self.jobs()) if STATUS[job.status] not in ("pending", "running")]
        if status == "bookmarked":
            ended = [job for job in ended if (task := self._tasks.get(job.id)) is not None and task.bookmarked]
        elif status and status != "all":
            ended = [job for job in ended if STATUS[job.status] == status]
        return {"tasks": [self.document(job) for job in ended[offset : offset + limit]], "total": len(ended)}

    def position(self, job: Job) -> int | None:
        """The position of a task among those that wait, from 0; None if it does not wait."""
        before = [known.id for known, place in sorted(self.jobs(), key=lambda entry: entry[1]) if place]
        return before.index(job.id) if job.id in before else None

    def results(self, job: Job, *, zipped: bool) -> dict[str, JsonValue] | bytes:
        """The pictures of a task: in base64 with their infotexts, or as files in one ZIP."""
        if job.status != "completed":
            return refused(f"Task is {STATUS[job.status]}")
        pictures = pictures_of(job)
        if not pictures:
            return refused("Task result is not available")
        if not zipped:
            data = [
                {
                    "image": "data:image/png;base64," + base64.b64encode(png(picture)).decode("ascii"),
                    "infotext": picture.infotext,
                }
                for picture in pictures
            ]
            return {"success": True, "data": data}
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for index, picture in enumerate(pictures):
                name = PurePath(picture.path).name if picture.path else f"{index:05}.png"
                archive.writestr(f"{PurePath(name).stem}.png", png(picture))
        return out.getvalue()

    # --- changing ----------------------------------------------------------------------------------------------------

    def delete(self, job: Job) -> dict[str, JsonValue]:
        """Delete a task; a running one is cancelled."""
        running = job.status == "running"
        self._services.queue.cancel(job.id)
        if running:
            return succeeded("Task interrupted")
        self._forget(job)
        return succeeded("Task deleted")

    def _forget(self, job: Job) -> None:
        self._services.queue.forget(job.id)
        self._tasks.remove(job.id)

    def move(self, job: Job, over: str) -> dict[str, JsonValue]:
        """Move a waiting task before another, to the top or to the bottom."""
        if over == "top":
            place, said = 1, "Task moved to top"
        elif over == "bottom":
            place, said = len(self._services.queue.jobs()) + 1, "Task moved to bottom"
        else:
            other = self.job(over)
            if other is None or not other.position:
                return refused("Task not found")
            place, said = other.position, "Task moved"
        try:
            self._services.queue.promote(job.id, place)
        except LatentdError as error:
            return refused(error.detail)
        return succeeded(said)

    def run(self, job: Job) -> dict[str, JsonValue]:
        """Let a waiting task run next."""
        if job.status == "running":
            return refused("Task is running")
        moved = self.move(job, "top")
        if not moved["success"]:
            return moved
        if self._services.queue.paused:
            return refused("Task is the next, but the queue is paused")
        return succeeded("Task is scheduled to run next")

    def update(self, job: Job, given: UpdateTaskArgs) -> dict[str, JsonValue]:
        """Name a task; its parameters were planned when it was queued."""
        if given.checkpoint is not None or given.params:
            return refused("a task's checkpoint and parameters are fixed once it is queued; queue it anew")
        return self.note(job, name=given.name)

    def note(self, job: Job, *, name: str | None = None, bookmarked: bool | None = None) -> dict[str, JsonValue]:
        """Change what only agent-scheduler knows of a task."""
        task = self._tasks.get(job.id)
        if task is None:
            task = Task(
                id=job.id, kind="img2img" if job.kind == "img2img" else "txt2img", body=None, params=dict(job.meta)
            )
            self._tasks.add(task)
        task.name = name if name is not None else task.name
        task.bookmarked = bookmarked if bookmarked is not None else task.bookmarked
        return succeeded("Task updated.")

    def clear(self, *, waiting: bool) -> None:
        """Cancel every task that waits, or forget every one that has ended."""
        for job, _ in self.jobs():
            if waiting and job.status == "queued":
                self._services.queue.cancel(job.id)
            if job.status not in ("queued", "running") and (waiting is False or job.status == "cancelled"):
                self._forget(job)


def succeeded(message: str) -> dict[str, JsonValue]:
    """The answer to what has been done."""
    return {"success": True, "message": message}


def refused(message: str) -> dict[str, JsonValue]:
    """The answer to what has not been done, with the reason."""
    return {"success": False, "message": message}


def _iso(milliseconds: int) -> str:
    text = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
