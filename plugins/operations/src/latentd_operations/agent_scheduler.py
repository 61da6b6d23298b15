"""The routes below ``/agent-scheduler/v1``, the older spellings included, which clients still use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from latentd.api import APIRouter, JsonValue, Services
from latentd_operations.scheduler import (
    HistoryResponse,
    Img2ImgTask,
    Job,
    QueueStatusResponse,
    QueueTaskResponse,
    Scheduler,
    TaskAnswer,
    TaskMessage,
    TaskPositionAnswer,
    TaskResultsAnswer,
    Txt2ImgTask,
    UpdateTaskArgs,
    refused,
    succeeded,
)

if TYPE_CHECKING:
    from latentd_operations.tasks import Tasks
    from latentd_operations.webhooks import Webhooks

Limit = Annotated[int, Query(ge=0, le=1000, description="most tasks of the reply")]
Offset = Annotated[int, Query(ge=0, description="how many are left out before")]
Answer = dict[str, JsonValue]
#: Routes that stop other clients' work need a key with the scope admin.
_ADMIN = {"x-scope": "admin"}


def router(services: Services, tasks: Tasks, webhooks: Webhooks) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/agent-scheduler/v1", tags=["agent-scheduler"])
    scheduler = Scheduler(services, tasks, webhooks)
    _add_queue(routes, services, scheduler)
    _add_tasks(routes, services, scheduler)

    @routes.get("/samplers", operation_id="list_task_samplers", response_model=list[str])
    async def samplers() -> list[str]:
        """Every sampler's name."""
        return list(services.registry.samplers)

    @routes.get("/sd-models", operation_id="list_task_models", response_model=list[str])
    async def models() -> list[str]:
        """Titles of the checkpoints."""
        return [checkpoint.title for checkpoint in services.models.checkpoints]

    return routes


def _add_queue(routes: APIRouter, services: Services, scheduler: Scheduler) -> None:
    @routes.post("/queue/txt2img", operation_id="queue_txt2img", response_model=QueueTaskResponse)
    async def txt2img(body: Txt2ImgTask, request: Request) -> QueueTaskResponse:
        """Queue a txt2img task."""
        return QueueTaskResponse(task_id=await scheduler.submit(body, request))

    @routes.post("/queue/img2img", operation_id="queue_img2img", response_model=QueueTaskResponse)
    async def img2img(body: Img2ImgTask, request: Request) -> QueueTaskResponse:
        """Queue an img2img task."""
        return QueueTaskResponse(task_id=await scheduler.submit(body, request))

    @routes.get("/queue", operation_id="get_task_queue", response_model=QueueStatusResponse)
    async def queue(limit: Limit = 20, offset: Offset = 0) -> Answer:
        """What waits, next first."""
        return scheduler.queue(limit, offset)

    @routes.get("/history", operation_id="get_task_history", response_model=HistoryResponse)
    async def history(status: str | None = None, limit: Limit = 20, offset: Offset = 0) -> Answer:
        """What has ended, newest first: all of it, or ``done``, ``failed``, ``interrupted``, ``bookmarked``."""
        return scheduler.history(status, limit, offset)

    def post(*paths: str, name: str, does: Callable[[], Answer], words: str) -> None:
        async def act() -> Answer:
            return does()

        _at(routes, "POST", paths, act, name=name, words=words, extra=_ADMIN)

    def pause() -> Answer:
        services.queue.pause()
        return succeeded("Queue paused.")

    def resume() -> Answer:
        services.queue.resume()
        return succeeded("Queue resumed.")

    def clear_queue() -> Answer:
        scheduler.clear(waiting=True)
        return succeeded("Queue cleared.")

    def clear_history() -> Answer:
        scheduler.clear(waiting=False)
        return succeeded("History cleared.")

    post("/queue/pause", "/pause", name="pause_task_queue", does=pause, words="Start no further job.")
    post("/queue/resume", "/resume", name="resume_task_queue", does=resume, words="Start waiting jobs again.")
    post("/queue/clear", name="clear_task_queue", does=clear_queue, words="Cancel every task that waits.")
    post("/history/clear", name="clear_task_history", does=clear_history, words="Forget every task that has ended.")


def _add_tasks(routes: APIRouter, services: Services, scheduler: Scheduler) -> None:
    def known(id: str) -> Job | None:
        return scheduler.job(id)

    async def task(id: str) -> Answer:
        job = known(id)
        if job is None:
            return refused("Task not found")
        place = scheduler.position(job)
        return {"success": True, "data": scheduler.document(job, position=place, one=True)}

    async def position(id: str) -> Answer:
        job = known(id)
        if job is None:
            return refused("Task not found")
        status = scheduler.document(job)["status"]
        return {"success": True, "data": {"status": status, "position": scheduler.position(job)}}

    async def results(id: str, zip: bool = False) -> Response | Answer:
        job = known(id)
        if job is None:
            return refused("Task not found")
        found = await services.run_in_thread(lambda: scheduler.results(job, zipped=zip))
        if not isinstance(found, bytes):
            return found
        name = "".join(char for char in id if char.isascii() and (char.isalnum() or char in "-_")) or "task"
        headers = {"Content-Disposition": f"attachment; filename=results-{name}.zip"}
        return Response(found, media_type="application/zip", headers=headers)

    _at(routes, "GET", ["/task/{id}"], task, name="get_task", words="One task.", answer=TaskAnswer)
    place: dict[str, Any] = {
        "name": "get_task_position",
        "words": "Its position among the tasks that wait, from 0.",
        "answer": TaskPositionAnswer,
    }
    _at(routes, "GET", ["/task/{id}/position"], position, **place)
    pictures: dict[str, Any] = {"name": "get_task_results", "words": "Its pictures.", "answer": TaskResultsAnswer}
    _at(routes, "GET", ["/task/{id}/results", "/results/{id}"], results, **pictures)
    _add_changes(routes, services, scheduler)


def _add_changes(routes: APIRouter, services: Services, scheduler: Scheduler) -> None:
    def on(does: Callable[[Job], Answer]) -> Callable[..., Awaitable[Answer]]:
        async def act(id: str) -> Answer:
            job = scheduler.job(id)
            return refused("Task not found") if job is None else does(job)

        return act

    async def update(id: str, body: UpdateTaskArgs) -> Answer:
        job = scheduler.job(id)
        return refused("Task not found") if job is None else scheduler.update(job, body)

    async def rename(id: str, name: str) -> Answer:
        job = scheduler.job(id)
        return (
            refused("Task not found") if job is None else scheduler.note(job, name=name) | {"message": "Task renamed."}
        )

    async def move(id: str, over_id: str) -> Answer:
        job = scheduler.job(id)
        return refused("Task not found") if job is None else scheduler.move(job, over_id)

    async def requeue(id: str, request: Request) -> Answer:
        return await scheduler.requeue(id, request)

    def mark(job: Job) -> Answer:
        return scheduler.note(job, bookmarked=True) | {"message": "Task bookmarked"}

    def unmark(job: Job) -> Answer:
        return scheduler.note(job, bookmarked=False) | {"message": "Task unbookmarked"}

    for method, paths, endpoint, name, words in (
        ("PUT", ["/task/{id}"], update, "update_task", "Name it."),
        ("POST", ["/task/{id}/run", "/run/{id}"], on(scheduler.run), "run_task", "Let it run next."),
        ("POST", ["/task/{id}/requeue", "/requeue/{id}"], requeue, "requeue_task", "Queue it again."),
        ("DELETE", ["/task/{id}"], on(scheduler.delete), "delete_task", "Delete it; a running one is cancelled."),
        ("POST", ["/delete/{id}"], on(scheduler.delete), "post_delete_task", "Delete it, by POST."),
        ("POST", ["/task/{id}/move/{over_id}", "/move/{id}/{over_id}"], move, "move_task", "Move it."),
        ("POST", ["/task/{id}/bookmark", "/bookmark/{id}"], on(mark), "bookmark_task", "Bookmark it."),
        ("POST", ["/task/{id}/unbookmark", "/unbookmark/{id}"], on(unmark), "unbookmark_task", "Remove its bookmark."),
        ("POST", ["/task/{id}/rename", "/rename/{id}"], rename, "rename_task", "Name it."),
    ):
        _at(routes, method, paths, endpoint, name=name, words=words)


def _at(
    routes: APIRouter,
    method: str,
    paths: list[str] | tuple[str, ...],
    endpoint: Callable[..., Awaitable[object]],
    *,
    name: str,
    words: str,
    answer: type[BaseModel] = TaskMessage,
    extra: dict[str, JsonValue] | None = None,
) -> None:
    """Add a route at each of ``paths``; those after the first are the older spellings."""
    endpoint.__doc__ = words
    for number, path in enumerate(paths):
        routes.add_api_route(
            path,
            endpoint,
            methods=[method],
            operation_id=name + ("_by_older_path" if number else ""),
            deprecated=True if number else None,
            response_model=None,
            responses={200: {"model": answer}},
            openapi_extra=extra,
        )
