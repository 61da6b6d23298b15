"""The engine, set up by flags: one device, several devices, or a process for each."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from latentd.engine.executor import Engine
from latentd.engine.runner import LocalRunner
from latentd.models.devices import free_cache
from latentd.models.here import compute_on, probe, work_on
from latentd.server.shared_batches import share_limit
from latentd.server.work import import_pipeline
from latentd.server.worker_process import ProcessRunner

if TYPE_CHECKING:
    from collections.abc import Callable

    from latentd.executors import Runner
    from latentd.options import OptionStore
    from latentd.server.model_setup import ServedModels
    from latentd.server.worker_process import Home
    from latentd.settings import Settings

log = logging.getLogger(__name__)

MEBIBYTE = 1 << 20
#: The name of the place where there is one device only, whatever that is.
ONLY = "cpu"


def create_engine(settings: Settings, options: OptionStore, models: ServedModels, home: Callable[[], Home]) -> Engine:
    """The built-in executor with a runner for each device of the flags.

    :param home: what worker processes need.
    """
    if settings.split_batches and len(settings.devices) < 2:
        log.warning("--split-batches has no effect with one device")
    return Engine(
        runners=_processes(settings, models, home()) if settings.worker_processes else _threads(settings, models),
        queue_limit=settings.max_queue,
        result_ttl=settings.result_ttl,
        result_bytes=int(settings.result_mb * MEBIBYTE),
        models_kept=lambda: max(1, int(options["sd_checkpoints_limit"] or 1)),
        share_limit=lambda: share_limit(settings, models),
    )


def _threads(settings: Settings, models: ServedModels) -> list[Runner]:
    def is_alive() -> None:
        probe(models.policy)

    if not settings.devices:
        return [LocalRunner(ONLY, prepare=import_pipeline, cleanup=free_cache, probe=is_alive)]
    return [
        LocalRunner(name, prepare=partial(_settle, models, name), cleanup=free_cache, probe=is_alive)
        for name in settings.devices
    ]


def _processes(settings: Settings, models: ServedModels, home: Home) -> list[Runner]:
    if settings.share_batches:
        log.warning("--share-batches has no effect with --worker-processes: each job is made by itself")
    if not settings.devices:
        return [ProcessRunner(ONLY, None, home, here=import_pipeline)]
    return [ProcessRunner(name, name, home, here=partial(_settle, models, name)) for name in settings.devices]


def _settle(models: ServedModels, name: str) -> None:
    """Make this thread the worker of the device ``name``.

    :raises NotConfigured: it does not exist.
    """
    work_on(name)
    import_pipeline()
    compute_on(models.policy)
