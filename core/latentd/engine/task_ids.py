"""Ids of jobs, in AUTOMATIC1111's form."""

from __future__ import annotations

import secrets
import string
from collections.abc import Container

from latentd.errors import InvalidRequest

_ALPHABET = string.ascii_uppercase + string.digits
_LENGTH = 7
_LONGEST = 128


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
