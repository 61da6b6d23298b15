"""Documents of the jobs API: jobs, their pictures and events.

These models only describe what :func:`latentd.engine.progress.job_document` and the routes make; no reply is validated
by them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from latentd.types import JsonValue, Stage

State = Literal["queued", "running", "completed", "failed", "cancelled"]
EventName = Literal["queued", "started", "progress", "completed", "failed", "cancelled"]

_PATH = "/latentd/v1/jobs/task(txt2img-7Q2ZK4M)"
_RUNNING: dict[str, JsonValue] = {
    **{"id": "task(txt2img-7Q2ZK4M)", "kind": "txt2img", "state": "running", "position": 0},
    **{"created": 1767222000.25, "started": 1767222000.5, "finished": None, "progress": 0.35, "eta": 1.3},
    **{"step": 7, "steps": 20, "batch": 0, "batches": 1, "text": "scripts_txt2img", "preview_id": 1},
    "stage": "sample",
    **{"interrupted": False, "expired": False, "warnings": [], "error": None},
    "meta": {"width": 512, "height": 512, "steps": 20, "images": 1},
}
_ENDED: dict[str, JsonValue] = {
    **_RUNNING,
    **{
        "state": "completed",
        "finished": 1767222002.5,
        "progress": 1.0,
        "eta": 0.0,
        "step": 0,
        "batch": 1,
        "batches": 0,
    },
    **{"text": "", "stage": "finish", "preview": None, "events": f"{_PATH}/events", "result": None},
    "images": [
        {
            **{"url": f"{_PATH}/images/0", "width": 512, "height": 512, "seed": 1, "role": "image"},
            "infotext": "a lighthouse at dusk, oil painting\nSteps: 20, Sampler: Euler a, CFG scale: 7.0, Seed: 1",
        }
    ],
}


#: An example of each document, by the name of its model. FastAPI would drop what is null in one that a model has.
EXAMPLES: dict[str, dict[str, JsonValue]] = {
    "JobDocument": _RUNNING,
    "Job": _ENDED,
    "JobList": {"total": 1, "jobs": [_RUNNING]},
    "JobAccepted": {"id": _ENDED["id"], "state": "queued", "position": 1, "url": _PATH, "events": f"{_PATH}/events"},
    "JobEvent": {"event": "progress", "data": _RUNNING},
    "Ticket": {"ticket": "vR9bXhE2o7mT1yKJ4dLwQ8sUcZ5nFgA6pHiNkO0eMtY", "expires_in": 300},
}


class JobError(BaseModel):
    """Why a job failed."""

    type: str = Field(description="Class of the error.")
    detail: str = Field(description="What is wrong, in one sentence.")


class JobDocument(BaseModel):
    """A job as lists and events show it."""

    id: str
    kind: str = Field(description="txt2img, img2img, extras, or what a plugin runs.")
    state: State
    position: int = Field(description="Place in the queue from 1; 0 when it does not wait.")
    created: float = Field(description="Unix time in seconds.")
    started: float | None = Field(description="Unix time in seconds; null while it waits.")
    finished: float | None = Field(description="Unix time in seconds; null until it has ended.")
    progress: float = Field(description="The part that is done, 0 to 1.")
    eta: float | None = Field(description="Seconds that remain; null while nothing is done.")
    step: int = Field(description="Sampling steps done in this pass.")
    steps: int = Field(description="Sampling steps of this pass.")
    batch: int = Field(description="Batches done.")
    batches: int = Field(description="Batches in all.")
    text: str = Field(description="What is being done.")
    stage: Stage | None = Field(
        description="What a generation is at, or was when it ended: models and texts, sampling, decoding and saving; "
        "null before, and of other work."
    )
    preview_id: int = Field(description="Grows with each new preview; 0 while there is none.")
    interrupted: bool = Field(description="Somebody asked to stop early; the pictures are as far as they got.")
    expired: bool = Field(description="The pictures are no longer kept.")
    warnings: list[str] = Field(description="What the request asked for and does not get.")
    meta: dict[str, JsonValue] = Field(description="Of a generation: width, height, steps and images.")
    error: JobError | None


class JobPicture(BaseModel):
    """One picture of a completed job."""

    url: str = Field(description="Path of its bytes.")
    width: int
    height: int
    seed: int | None = Field(description="Null where the picture has none of its own (a grid, say).")
    role: Literal["image", "grid", "extra"]
    infotext: str | None = Field(description="Null where the picture has none (a control map, say).")


class Job(JobDocument):
    """A job by itself: with its pictures, and where its preview and events are."""

    preview: str | None = Field(description="Path of the latest preview; null while there is none.")
    events: str = Field(description="Path of the event stream.")
    images: list[JobPicture] = Field(description="Its pictures once it has completed.")
    result: dict[str, JsonValue] | None = Field(
        description="What else came of it, where it is no generation (a training)."
    )


class JobList(BaseModel):
    """Jobs, oldest first."""

    total: int = Field(description="How many there are in that state, shown or not.")
    jobs: list[JobDocument]


class JobAccepted(BaseModel):
    """A job that was handed in."""

    id: str
    state: State
    position: int = Field(description="Place in the queue from 1; 0 when it does not wait.")
    url: str = Field(description="Path of the job.")
    events: str = Field(description="Path of the event stream.")


class Ticket(BaseModel):
    """A pass for event streams."""

    ticket: str = Field(description="Value of the query parameter ``ticket``.")
    expires_in: float = Field(description="Seconds for which it opens streams.")


class JobEvent(BaseModel):
    """One server-sent event: its name, and the job at that moment."""

    event: EventName
    data: JobDocument
