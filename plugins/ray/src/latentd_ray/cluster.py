"""This process's connection to a Ray cluster."""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from latentd.api import DeviceLost, Settings
from latentd_ray.actor import CONCURRENCY, LatentdActor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ray.actor import ActorHandle

log = logging.getLogger(__name__)

AUTO, LOCAL = "auto", "local"
#: Seconds within which a cluster's head must answer.
CONNECTING = 5.0
LOOPBACK = "127.0.0.1"
#: Bytes of the object store of a cluster that is started here: pictures on their way.
STORE = 256 << 20
NAMESPACE = "latentd"


class Cluster:
    """A connection to the cluster of ``--ray-address``, or to one that is started on this machine and ends with it.

    A process has one connection. The servers of a process share it; the one that made it ends it.

    :raises DeviceLost: there is no such cluster, or it has other versions of Python or Ray.
    """

    def __init__(self, settings: Settings) -> None:
        # Read when Ray is imported: it reports nothing to its makers, and a cluster that starts here has its own token.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        if settings.ray_address == LOCAL:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
            # Without it Ray takes the machine's outward address even where loopback's is given.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        import ray

        self._settings = settings
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            self._connect(str(settings.ray_address))

    def _connect(self, address: str) -> None:
        import ray
        from ray.exceptions import RayError

        try:
            if address == LOCAL:
                ray.init(
                    address=LOCAL,
                    include_dashboard=False,
                    object_store_memory=STORE,
                    _node_ip_address=LOOPBACK,
                    namespace=NAMESPACE,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                )
            else:
                check_reachable(address)
                ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.WARNING)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            hint = "docs/how-to/ray.md tells how to start Ray; where it asks for a token, set RAY_AUTH_MODE=token"
            raise DeviceLost(f"--ray-address {address}: {error}", hint=hint) from error
        log.info("connected to the Ray cluster %s with %s", address, self.resources())

    def resources(self) -> dict[str, float]:
        """The cluster's GPUs, CPUs and further resources by name, in use or not."""
        import ray

        found: Mapping[str, float] = ray.cluster_resources()
        return {name: amount for name, amount in found.items() if ":" not in name and "memory" not in name}

    def free(self) -> dict[str, float]:
        """As :meth:`resources`, those that nothing uses."""
        import ray

        found: Mapping[str, float] = ray.available_resources()
        return {name: amount for name, amount in found.items() if name in self.resources()}

    @property
    def wants(self) -> dict[str, float]:
        """What one actor takes of them."""
        amounts = {"GPU": self._settings.ray_gpus, "CPU": self._settings.ray_cpus, **self._settings.ray_resources}
        return {name: float(str(amount)) for name, amount in amounts.items() if amount}

    def capacity(self) -> int:
        """How many actors with a GPU the whole cluster has room for; 1 for actors without."""
        gpus = self._settings.ray_gpus
        return max(1, math.floor(self.resources().get("GPU", 0.0) / gpus)) if gpus else 1

    def new_actor(self) -> ActorHandle[LatentdActor]:
        """An actor, which Ray will place where there is room; it is not started again by Ray."""
        import ray

        settings = self._settings
        decorate = ray.remote(
            num_gpus=settings.ray_gpus,
            num_cpus=settings.ray_cpus,
            resources=settings.ray_resources or None,
            label_selector=settings.ray_labels or None,
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups=CONCURRENCY,
        )
        handle: ActorHandle[LatentdActor] = decorate(LatentdActor).remote()
        return handle

    def close(self) -> None:
        """Leave the cluster, which ends the actors."""
        if not self._is_ours:
            return
        import ray

        with suppress(Exception):
            ray.shutdown()


def check_reachable(address: str) -> None:
    """Check that something listens at ``address`` unless it is ``auto``: Ray itself would try for minutes.

    :raises OSError: nothing does.
    :raises ValueError: it is no address of a cluster's head.
    """
    if address == AUTO:
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise ValueError("the address of the cluster's head is wanted, as 10.0.0.1:6379")
    socket.create_connection((host.strip("[]"), int(port)), CONNECTING).close()
