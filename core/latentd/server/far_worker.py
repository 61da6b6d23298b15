"""The far side of a place: services of the server's settings in another process, and jobs that are sent to it."""

from __future__ import annotations

import logging
import os
import queue
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from latentd.engine.executor import Engine
from latentd.engine.far import (
    FarChannel,
    FarJob,
    ModelNews,
    Outcome,
    Progress,
    Ready,
    Stops,
    Task,
    Unable,
    pack_error,
    unpack,
)
from latentd.engine.runner import LocalRunner, freeze_heap
from latentd.engine.worker import named
from latentd.logged_job import at_work
from latentd.models.allocator import keep_freed_memory
from latentd.models.devices import free_cache, memory_report
from latentd.models.here import compute_on, probe, work_on
from latentd.server.services import create_services
from latentd.server.work import import_pipeline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latentd.settings import Settings

log = logging.getLogger(__name__)


class FarWorker:
    """Carries out jobs for a server in another process; on one thread, except :meth:`tell`.

    :param settings: the server's.
    :param device: the one of ``--devices`` that this worker drives; None for the machine's own choice.
    :param modules: plugins that are not installed distributions.
    :param on_model: called with a model's kind and file, and ``loaded`` or ``unloaded``.
    """

    def __init__(
        self,
        settings: Settings,
        device: str | None,
        *,
        modules: Iterable[tuple[str, object]] = (),
        on_model: Callable[[str, str], None] | None = None,
    ) -> None:
        own = replace(settings, devices=(device,) if device else (), worker_processes=False)
        # The server's own engine queues; this one only stands where services want one.
        self.services = create_services(own, extra_plugins=modules, serve_http=False, executor=Engine())
        self.services.options.path = None  # the server writes the file
        for cache in self.services.models.caches:
            cache.observer = on_model
        self._device = device
        self._scans = 0
        self._known: dict[str, str] = {}
        self._job: FarJob | None = None

    def prepare(self) -> None:
        """Import what every generation needs, and choose the device.

        :raises NotConfigured: it does not exist.
        """
        if self._device is not None:
            work_on(self._device)
        import_pipeline()
        compute_on(self.services.models.policy)
        self.services.start()
        freeze_heap()
        self._new_hashes()

    def tell(self, stops: Stops) -> None:
        """Stop the running job as ``stops`` says; on any thread."""
        if (job := self._job) is not None:
            job.tell(stops)

    def run(self, task: Task, send: Callable[[Mapping[str, object]], None]) -> Outcome:
        """Carry out ``task``; ``send`` gets the fields of its progress that have changed."""
        far = self._job = FarJob(task, send)
        outcome = Outcome()
        try:
            self._follow(task)
            outcome = Outcome(result=unpack(task.work, self.services)(far.job))
        except BaseException as raised:  # SystemExit from a plugin must not end the worker
            error = named(raised)
            trouble = LocalRunner(probe=lambda: probe(self.services.models.policy)).diagnose(error)
            trace = "".join(traceback.format_exception(error))
            outcome = Outcome(error=pack_error(error), trace=trace, lost=trouble is not None and trouble.lasting)
        finally:
            self._job = None
        far.report()
        del far
        free_cache()
        models = self.services.models
        return replace(
            outcome,
            memory=memory_report(),
            hashes=self._new_hashes(),
            precision=models.precision_report(),
            cache=models.cache_report(),
        )

    def _follow(self, task: Task) -> None:
        """Take over what the server's options and folders have become."""
        if task.scans > self._scans:
            self._scans = task.scans
            self.services.models.refresh()
            self.services.refresh_networks()
            self.services.host.refresh_upscalers()
        try:
            self.services.options.update(task.options, from_api=False)
        except Exception:  # told where the option is used, as on the server
            log.exception("an option of the server could not be followed")

    def _new_hashes(self) -> dict[str, str]:
        known = {info.filename: info.sha256 for info in self.services.models.checkpoints if info.sha256}
        new = {name: digest for name, digest in known.items() if self._known.get(name) != digest}
        self._known = known
        return new


def serve_far(
    channel: FarChannel,
    settings: Settings,
    device: str | None = None,
    *,
    modules: Iterable[tuple[str, object]] = (),
) -> None:
    """Carry out on this thread the tasks that come over ``channel``. The process ends when the server is gone.

    It returns only where this process cannot work, after it has said so.

    :param settings: the server's, with the folders of this machine.
    :param device: as of :class:`FarWorker`, and so are ``modules``.
    """
    keep_freed_memory()
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    try:
        worker = FarWorker(
            settings, device, modules=modules, on_model=lambda kind, event: channel.send(ModelNews(kind, event))
        )
        threading.Thread(target=_listen, args=(channel, worker, tasks), daemon=True).start()
        worker.prepare()
    except BaseException as error:
        log.exception("%s cannot be worked with", device or "the device")
        channel.send(Unable.because_of(error))
        return
    channel.send(Ready(memory_report()))
    while True:
        task = tasks.get()
        with at_work(task.id):
            outcome = worker.run(task, lambda changes: channel.send(Progress(changes)))
        channel.send(outcome)
        del outcome, task


def _listen(channel: FarChannel, worker: FarWorker, tasks: queue.SimpleQueue[Task]) -> None:
    """Pass on what the server sends; without a server there is nothing left to do."""
    while True:
        try:
            message = channel.receive()
        except EOFError:
            os._exit(0)
        if isinstance(message, Stops):
            worker.tell(message)
        else:
            tasks.put(message)
