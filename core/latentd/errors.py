"""Typed errors: each has an HTTP status, AUTOMATIC1111's message and a hint for the person who reads it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_DETAIL = 1000
"""Most characters of an error's detail."""
LONGEST_COMPARED = 100
"""Most characters of a name for which similar names are looked for; the time for that grows with their square."""


class LatentdError(Exception):
    """Base of every error that latentd raises on purpose.

    :param detail: one sentence, in AUTOMATIC1111's words if it has any; clients match on it.
    :param hint: what to do about it; sent besides ``detail``, never instead of it.
    :param status: the HTTP status, if it differs from that of the class.
    """

    status = 500

    def __init__(self, detail: str, *, hint: str | None = None, status: int | None = None) -> None:
        if len(detail) > LONGEST_DETAIL:  # it quotes the request
            detail = f"{detail[:LONGEST_DETAIL]}..."
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        if status is not None:
            self.status = status


class InvalidRequest(LatentdError):
    """The request is well-formed JSON but cannot be carried out as asked."""

    status = 422


class InvalidImage(InvalidRequest):
    """An image string cannot be decoded, or the image is larger than the bounds allow."""

    def __init__(self, detail: str = "Invalid encoded image", *, hint: str | None = None) -> None:
        super().__init__(detail, hint=hint)


class NotAllowed(LatentdError):
    """The caller's key does not allow this."""

    status = 403


class NotFound(LatentdError):
    """A name in the request is unknown; the hint gives near matches or the package to install."""

    status = 404


class Conflict(LatentdError):
    """The request conflicts with the present state, for example a task id that is in use."""

    status = 409


class Gone(LatentdError):
    """A result existed and has expired."""

    status = 410


class TooLarge(LatentdError):
    """A body, picture, step count or batch exceeds a configured bound."""

    status = 413


class OutOfMemory(TooLarge):
    """Memory ran out during this work. Only this work failed; its memory is free again."""

    def __init__(self, detail: str = "out of memory") -> None:
        super().__init__(detail, hint="use a smaller picture or batch; the server's memory is free again")


class QueueFull(LatentdError):
    """The job queue is at its bound.

    :param retry_after: seconds after which a retry makes sense.
    """

    status = 429

    def __init__(self, detail: str, *, retry_after: int, hint: str | None = None) -> None:
        super().__init__(detail, hint=hint)
        self.retry_after = retry_after


class NotConfigured(LatentdError):
    """A feature is switched off, or needs a plugin, a flag or a weight file that is missing."""

    status = 422


class DeviceLost(LatentdError):
    """The device, or the process that drives it, failed during this work; the server goes on with what is left."""

    status = 503


class ModelLoadError(LatentdError):
    """A model file is damaged, of an unknown kind, or refused by the restricted unpickler."""

    status = 422


class NotStored(LatentdError):
    """A change was made but could not be written to the disk, which is full or read-only."""

    status = 507


class PluginError(LatentdError):
    """A plugin's code raised an exception; the message names the plugin and the hook."""

    status = 500

    def __init__(self, plugin: str, hook: str, error: BaseException) -> None:
        super().__init__(f"plugin {plugin!r} failed in {hook}: {type(error).__name__}: {error}")
        self.plugin = plugin
        self.hook = hook


class Interrupted(LatentdError):
    """Raised inside a job to leave the sampling loop; it never reaches a client."""


def near_matches(name: str, known: Iterable[str], *, count: int = 3) -> str | None:
    """A hint with up to ``count`` known names that resemble ``name``, or None if there are none."""
    if len(name) > LONGEST_COMPARED:
        return None
    names = list(known)
    by_lower = {n.lower(): n for n in names}
    close = get_close_matches(name.lower(), list(by_lower), n=count, cutoff=0.5)
    if not close:
        return None
    return "did you mean " + " or ".join(repr(by_lower[c]) for c in close) + "?"
