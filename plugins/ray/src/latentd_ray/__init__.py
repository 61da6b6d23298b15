"""Pictures drawn by the actors of a Ray cluster, behind the server's own queue. Ray is imported if it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.api import Executor, Services, Settings, hookimpl

if TYPE_CHECKING:
    from latentd_ray.executor import RayExecutor

__all__ = ["create_executor", "startup"]


@hookimpl
def create_executor(settings: Settings) -> Executor | None:
    """The executor of ``--ray-address``; None without that flag."""
    if settings.ray_address is None:
        return None
    from latentd_ray.executor import RayExecutor

    return RayExecutor(settings)


@hookimpl
def startup(services: Services) -> None:
    """Let the executor know how many models each actor keeps."""
    if services.settings.ray_address is not None and (executor := _own(services)) is not None:
        executor.models_kept = lambda: max(1, int(services.options["sd_checkpoints_limit"] or 1))


def _own(services: Services) -> RayExecutor | None:
    """The server's executor if it is this plugin's; on an actor it is another."""
    from latentd_ray.executor import RayExecutor

    return services.queue if isinstance(services.queue, RayExecutor) else None
