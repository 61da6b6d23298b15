"""What agent-scheduler's clients say of a job beside its parameters: a name, a bookmark, a callback URL."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from latentd.api import GeneratedImage, JsonValue, LatentdError, Services, WorkJob, picture_bytes
from latentd_operations.webhooks import Delivery, Payload

Kind = Literal["txt2img", "img2img"]
STATUS = {
    "queued": "pending",
    "running": "running",
    "completed": "done",
    "failed": "failed",
    "cancelled": "interrupted",
}
"""A job's state → agent-scheduler's word for it."""
MOST_TASKS = 2000
"""Most tasks of which more is known than their jobs say."""
MOST_CHARACTERS = 64 << 20
"""Most characters of the requests that are kept to be queued again."""


@dataclass(slots=True, kw_only=True)
class Task:
    """One request of a client.

    :param body: the request, to be queued again; None once newer ones took its room.
    :param params: what the task's document shows of it: everything but pictures and scripts.
    """

    id: str
    kind: Kind
    body: dict[str, JsonValue] | None
    params: dict[str, JsonValue]
    name: str | None = None
    bookmarked: bool = False
    callback_url: str | None = None


class Tasks:
    """The tasks of one server by the ids of their jobs; the oldest are forgotten first."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._tasks: OrderedDict[str, Task] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, task: Task) -> None:
        """Keep ``task``."""
        with self._lock:
            self._tasks[task.id] = task
            while len(self._tasks) > MOST_TASKS:
                self._tasks.popitem(last=False)
            size = 0
            for known in reversed(self._tasks.values()):
                size += _size(known.body)
                if size > MOST_CHARACTERS:
                    known.body = None

    def get(self, job_id: str) -> Task | None:
        """The task of a job; None if it did not come from such a client."""
        return self._tasks.get(job_id)

    def remove(self, job_id: str) -> None:
        """Forget a task."""
        with self._lock:
            self._tasks.pop(job_id, None)

    def callback_of(self, job_id: str) -> Delivery | None:
        """What the receiver is sent that the task's request named, if it named one."""
        task = self.get(job_id)
        if task is None or not task.callback_url:
            return None
        return Delivery(url=task.callback_url, job_id=job_id, event="", make=partial(self._form, job_id))

    def _form(self, job_id: str) -> Payload:
        """The form that agent-scheduler sends: ``task_id``, ``status``, and the pictures as ``files``."""
        try:
            job = self._services.queue.get(job_id)
        except LatentdError:  # forgotten meanwhile
            return _multipart({"task_id": job_id, "status": "interrupted"}, {})
        files = {f"{job_id}-{index}.png": png(image) for index, image in enumerate(pictures_of(job))}
        return _multipart({"task_id": job_id, "status": STATUS[job.status]}, files)


def pictures_of(job: WorkJob[object]) -> list[GeneratedImage]:
    """The pictures of an ended job; none if it failed, or its result is kept no longer."""
    try:
        result = job.outcome()
    except Exception:  # whatever the work raised
        return []
    return [image for image in getattr(result, "images", ()) if isinstance(image, GeneratedImage)]


def png(image: GeneratedImage) -> bytes:
    """The picture as a PNG file with its metadata."""
    return picture_bytes(image.image, format="png", info=dict(image.info))


def _size(body: Mapping[str, JsonValue] | None) -> int:
    texts = [value for value in (body or {}).values() if isinstance(value, str | list)]
    return sum(len(value) if isinstance(value, str) else sum(len(str(one)) for one in value) for value in texts)


def _multipart(fields: Mapping[str, str], files: Mapping[str, bytes]) -> Payload:
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for name, data in files.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
        parts.append(f"{head}Content-Type: image/png\r\n\r\n".encode() + data + b"\r\n")
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"
