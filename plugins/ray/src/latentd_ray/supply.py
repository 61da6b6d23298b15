"""What the server does about model files that an actor's machine lacks: copy them there if it may, else say so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from latentd.api import JobControl, LatentdError, NeededFile, open_regular
from latentd_ray.node_files import Finding

log = logging.getLogger(__name__)

#: Bytes that are sent at a time: as many are in the cluster's object store for each copy.
PIECE = 16 << 20


class FileMissing(LatentdError):
    """A machine of the cluster has no such model file, and may not be sent it."""

    status = 503


class Asks(Protocol):
    """The part of an actor's link that this module uses."""

    @property
    def machine(self) -> str:
        """The address of the actor's machine."""

    def ask(self, method: str, *arguments: object, control: JobControl) -> object:
        """The answer of the actor's method.

        :raises LatentdError: what it raised.
        :raises Interrupted: the job was stopped. :raises LinkLost: the actor has ended.
        """


class Supply:
    """The files that one actor's machine is known to have.

    :param may_send: whether files may be copied to it (``--ray-fetch``).
    """

    def __init__(self, link: Asks, *, may_send: bool) -> None:
        self._link = link
        self._may_send = may_send
        self._known: set[NeededFile] = set()

    def provide(self, files: Callable[[], Sequence[NeededFile]], control: JobControl) -> bool:
        """Make sure that the machine has ``files``; whether some are new to it.

        :raises FileMissing: it lacks one that may not be sent.
        """
        wanted = [file for file in files() if file not in self._known]
        if not wanted:
            return False
        try:
            findings = self._find(wanted, control)
            for file, finding in zip(wanted, findings, strict=True):
                if finding in ("missing", "other"):
                    self._check(file, finding)
                    self._send(file, control)
        finally:
            control.progress.textinfo = None
        self._known.update(wanted)
        return any(finding != "there" for finding in findings)

    def _find(self, files: Sequence[NeededFile], control: JobControl) -> Sequence[Finding]:
        control.progress.textinfo = f"Looking for {', '.join(file.name for file in files)} on {self._link.machine}"
        answer = self._link.ask("find_files", list(files), control=control)
        assert isinstance(answer, list)
        return answer

    def _check(self, file: NeededFile, finding: Finding) -> None:
        """Raise the error of a file that cannot be sent."""
        digest = f" with SHA-256 {file.sha256[:10]}..." if file.sha256 else ""
        where, what = self._link.machine, f"{file.kind}/{file.name}"
        if finding == "other":
            raise FileMissing(
                f"{what} on {where} is another file than the server's{digest}",
                hint="rename or delete one of them; no file is written over",
            )
        if file.path.is_dir():
            raise FileMissing(f"{where} has no folder {what}", hint="copy it there: folders are not fetched")
        if not self._may_send:
            raise FileMissing(
                f"{where} has no file {what}{digest}",
                hint="copy it there, share the folder, or start the server with --ray-fetch",
            )

    def _send(self, file: NeededFile, control: JobControl) -> None:
        log.info("%s is copied to %s: %d bytes", file.path, self._link.machine, file.size)
        offset = 0
        with open_regular(file.path) as source:
            while data := source.read(PIECE):
                percent = 100 * offset // file.size
                control.progress.textinfo = f"Copying {file.name} to {self._link.machine}: {percent} %"
                self._link.ask("take_piece", file, offset, data, control=control)
                offset += len(data)
        self._link.ask("finish_file", file, control=control)
