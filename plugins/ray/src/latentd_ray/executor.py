"""The server's queue before the actors of a Ray cluster."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import count

from latentd.api import FarRunner, QueueExecutor, Settings, import_pipeline
from latentd_ray.cluster import Cluster
from latentd_ray.fleet import Bounds, Fleet
from latentd_ray.link import ActorLink

MEBIBYTE = 1 << 20
#: Seconds for which an actor may take to start: its machine may have to read torch from a disk.
START = 300.0


class RayExecutor(QueueExecutor):
    """The core's queue, whose places are actors. It connects to the cluster at once.

    :raises DeviceLost: there is no cluster at ``--ray-address``.
    """

    def __init__(self, settings: Settings) -> None:
        self._cluster = Cluster(settings)
        self._there, self._may_send = settings_there(settings), settings.ray_fetch
        self._numbers = count()
        bounds = bounds_of(settings, self._cluster.capacity())
        runners = [self._new_runner() for _ in range(bounds.least)]
        super().__init__(
            runners=runners,
            queue_limit=settings.max_queue,
            result_ttl=settings.result_ttl,
            result_bytes=int(settings.result_mb * MEBIBYTE),
        )
        self._fleet = Fleet(self, bounds, runners, self._new_runner)
        self._fleet.start()

    def _new_runner(self) -> FarRunner:
        name = f"ray:{next(self._numbers)}"
        connect = partial(ActorLink, name, self._cluster, self._there, may_send=self._may_send)
        return FarRunner(name, connect, here=import_pipeline, start=START, retry=True)

    def close(self, timeout: float = 10.0) -> bool:
        """As of every executor; then the actors end, and the connection to the cluster."""
        self._fleet.close()
        ended = super().close(timeout)
        self._cluster.close()
        return ended


def settings_there(settings: Settings) -> Settings:
    """The server's settings for the machines of the cluster: their data folder, and no choice of a device."""
    folder = settings.ray_data_dir or str(settings.paths.data)
    return replace(settings, data_dir=folder, ray_address=None, device_id=None)


def bounds_of(settings: Settings, capacity: int) -> Bounds:
    """How many actors the flags ask for, in a cluster with room for ``capacity``."""
    least = settings.ray_min_actors or min(capacity, settings.ray_max_actors or capacity)
    most = max(least, settings.ray_max_actors or least)
    return Bounds(least=least, most=most, idle_seconds=settings.ray_idle_seconds)
