"""``/sdapi/v1/create/...`` and ``/sdapi/v1/train/...``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from fastapi import Request, Response

from latentd.api import APIRouter, JobControl, JsonValue, LenientModel, Services, name_job, reply_of
from latentd_training.plan import TrainingPlan, plan_embedding, plan_hypernetwork, plan_lora
from latentd_training.schemas import (
    CreateEmbedding,
    CreateHypernetwork,
    CreateResponse,
    Preprocess,
    PreprocessResponse,
    TrainEmbedding,
    TrainHypernetwork,
    TrainLora,
    TrainResponse,
)

#: Training writes files and holds the device for long: a key for it needs the scope that changes the server.
ADMIN = {"x-scope": "admin"}


def sdapi_router(services: Services) -> APIRouter:
    """AUTOMATIC1111's routes; each waits for its job."""
    router = APIRouter(prefix="/sdapi/v1", tags=["training"])
    _add_create(router, services)

    async def train(request: Request, task_id: str, plan: TrainingPlan) -> dict[str, JsonValue]:
        from latentd_training.run import run_training

        job = services.submit_work(
            lambda control: run_training(plan, services, control),
            kind=f"train-{plan.noun}",
            task_id=task_id,
            checkpoint=plan.checkpoint,
            meta=plan.meta,
        )
        name_job(request, job.id)
        result = await job.wait()
        # The word is the same for hypernetworks in the original.
        info = f"train embedding complete: filename: {result['filename']} error: None"
        return _with_warnings(info, result["warnings"])

    @router.post("/train/embedding", name="train_embedding", openapi_extra=ADMIN, **reply_of(TrainResponse))
    async def train_embedding(body: TrainEmbedding, request: Request) -> dict[str, JsonValue]:
        """Train an embedding: a name that stands for what a folder of pictures shows."""
        return await train(request, body.id_task, await asyncio.to_thread(plan_embedding, body, services))

    @router.post("/train/hypernetwork", name="train_hypernetwork", openapi_extra=ADMIN, **reply_of(TrainResponse))
    async def train_hypernetwork(body: TrainHypernetwork, request: Request) -> dict[str, JsonValue]:
        """Train a hypernetwork on a folder of pictures."""
        return await train(request, body.id_task, await asyncio.to_thread(plan_hypernetwork, body, services))

    @router.post("/preprocess", name="preprocess", openapi_extra=ADMIN, **reply_of(PreprocessResponse))
    async def prepare(body: Preprocess, request: Request) -> dict[str, JsonValue]:
        """Prepare a folder of pictures for training: cut, mirrored, captioned."""
        from latentd_training.preprocess import check_preprocess, preprocess

        source, target = await asyncio.to_thread(check_preprocess, body, services)
        job = services.submit_work(
            lambda control: preprocess(body, source, target, services, control),
            kind="preprocess",
            task_id=body.id_task,
        )
        name_job(request, job.id)
        result = await job.wait()
        return _with_warnings("preprocess complete", result["warnings"])

    return router


def own_router(services: Services) -> APIRouter:
    """Latentd's own routes; they hand a job in."""
    from latentd.api import JobAccepted, accept_job

    router = APIRouter(prefix="/latentd/v1/train", tags=["training"])

    @router.post(
        "/lora",
        operation_id="train_lora",
        status_code=202,
        response_model=None,
        responses={202: {"model": JobAccepted, "description": "The job is queued."}},
        openapi_extra=ADMIN,
    )
    async def train_lora(body: TrainLora, request: Request) -> Response:
        """Train a LoRA on a folder of pictures; the job's document has its file as ``result``."""
        from latentd_training.run import run_training

        plan = await asyncio.to_thread(plan_lora, body, services)
        job = services.submit_work(
            lambda control: run_training(plan, services, control),
            kind="train-lora",
            task_id=body.id_task,
            checkpoint=plan.checkpoint,
            meta=plan.meta,
        )
        return accept_job(job, request)

    return router


def _add_create(router: APIRouter, services: Services) -> None:
    async def create(
        kind: str, body: LenientModel, work: Callable[[JobControl], Path], said: str | None
    ) -> dict[str, JsonValue]:
        from latentd_training.create import Exists

        try:
            path = await services.run_on_worker(work, kind=f"create-{kind}")
        except Exists as error:
            return {"info": f"create {kind} error: {error}"}
        return _with_warnings(f"create {kind} filename: {said or path}", body.unknown_warnings)

    @router.post("/create/embedding", name="create_embedding", openapi_extra=ADMIN, **reply_of(CreateResponse))
    async def embedding(body: CreateEmbedding) -> dict[str, JsonValue]:
        """Create an embedding for the selected checkpoint, to be trained."""
        from latentd_training.create import create_embedding

        return await create("embedding", body, lambda control: create_embedding(body, services, control), None)

    @router.post("/create/hypernetwork", name="create_hypernetwork", openapi_extra=ADMIN, **reply_of(CreateResponse))
    async def hypernetwork(body: CreateHypernetwork) -> dict[str, JsonValue]:
        """Create a hypernetwork, to be trained."""
        from latentd_training.create import create_hypernetwork, structure_of

        structure_of(body)
        # The original says None in place of the path, and clients may compare with that.
        return await create("hypernetwork", body, lambda control: create_hypernetwork(body, services, control), "None")


def _with_warnings(info: str, warnings: list[str]) -> dict[str, JsonValue]:
    """A reply that says ``info``, and ``warnings`` where there are any."""
    return {"info": info, "warnings": list(warnings)} if warnings else {"info": info}
