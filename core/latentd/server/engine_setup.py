"""The engine, set up by flags: one device, several devices, or a process for each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from latentd.engine.executor import Engine
from latentd.engine.far_runner import FarRunner
from latentd.engine.runner import LocalRunner
from latentd.errors import NotConfigured
from latentd.models.devices import free_cache
from latentd.models.here import compute_on, probe, work_on
from latentd.plugins.catalogue import RAY, install_hint
from latentd.server.shared_batches import share_limit
from latentd.server.work import import_pipeline
from latentd.server.worker_process import ProcessLink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from latentd.executors import Runner
    from latentd.options import OptionStore
    from latentd.server.model_setup import ServedModels
    from latentd.settings import Settings

MEBIBYTE = 1 << 20
#: The name of the place where there is one device only, whatever that is.
ONLY = "cpu"


def create_engine(
    settings: Settings,
    options: OptionStore,
    models: ServedModels,
    plugins: Callable[[], Sequence[tuple[str, str]]],
) -> Engine:
    """The built-in executor with a runner for each device of the flags.

    :param plugins: the plugins, with their modules, that worker processes do not find by themselves.
    :raises NotConfigured: another executor is asked for, and no plugin has brought it.
    """
    if settings.ray_address is not None:
        raise NotConfigured("--ray-address needs the plugin latentd-ray, which is not loaded", hint=install_hint(RAY))
    return Engine(
        runners=_processes(settings, models, plugins()) if settings.worker_processes else _threads(settings, models),
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


def _processes(settings: Settings, models: ServedModels, plugins: Sequence[tuple[str, str]]) -> list[Runner]:
    if not settings.devices:
        return [FarRunner(ONLY, partial(ProcessLink, ONLY, settings, None, plugins), here=import_pipeline)]
    return [
        FarRunner(name, partial(ProcessLink, name, settings, name, plugins), here=partial(_settle, models, name))
        for name in settings.devices
    ]


def _settle(models: ServedModels, name: str) -> None:
    """Make this thread the worker of the device ``name``.

    :raises NotConfigured: it does not exist.
    """
    work_on(name)
    import_pipeline()
    compute_on(models.policy)
