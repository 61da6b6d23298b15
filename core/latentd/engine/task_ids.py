"""Ids of jobs, in AUTOMATIC1111's form."""

from __future__ import annotations

import secrets
import string
from collections.abc import Container, Mapping
from typing import Protocol

from latentd.errors import Conflict, InvalidRequest

_ALPHABET = string.ascii_uppercase + string.digits
_LENGTH = 7
_LONGEST = 128


class Endable(Protocol):
    """The part of a job that its id depends on."""

    @property
    def ended(self) -> bool:
        """Whether it has ended."""


def free_task_id(kind: str, wanted: str | None, jobs: Mapping[str, Endable]) -> str:
    """The id of a new job: ``wanted``, which a client may use again once its job has ended, or a new one.

    :raises Conflict: a job with this id waits or runs.
    """
    if wanted is None:
        return new_task_id(kind, jobs)
    known = jobs.get(wanted)
    if known is not None and not known.ended:
        raise Conflict(f"task id {wanted!r} is in use", hint="wait for that job to end, or choose another id")
    return wanted


def new_task_id(kind: str, taken: Container[str] = ()) -> str:
    """A free id such as ``task(txt2img-4F9QZ01)``: seven characters of A-Z and 0-9 after the kind."""
    while True:
        task_id = f"task({kind}-{''.join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))})"
        if task_id not in taken:
            return task_id


def checked_task_id(task_id: str) -> str:
    """``task_id`` as a client chose it; as in AUTOMATIC1111, almost any text is allowed.

    :raises InvalidRequest: it is longer than 128 characters, or has characters that cannot be printed on one line.
    """
    if len(task_id) > _LONGEST or not task_id.isprintable():
        raise InvalidRequest(
            "force_task_id is not usable", hint=f"use up to {_LONGEST} printable characters, or leave it out"
        )
    return task_id
