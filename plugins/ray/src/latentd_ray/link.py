"""The server's end of the way to an actor."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from latentd.api import (
    DeviceLost,
    FarMessage,
    FarNews,
    FarReady,
    FarUnable,
    JobControl,
    LatentdError,
    LinkLost,
    NeededFile,
    Settings,
)
from latentd_ray.actor import CONTROL, NEWS, TELL
from latentd_ray.supply import Supply
from latentd_ray.versions import difference, versions_here

if TYPE_CHECKING:
    from ray import ObjectRef

    from latentd_ray.cluster import Cluster

log = logging.getLogger(__name__)

Greeting: TypeAlias = tuple[str, int, dict[str, str]]
"""What an actor says first: its machine's address, its process's id, and the versions there."""

#: Seconds for which an actor that can work may say nothing until it is given up: its machine is cut off or stopped.
SILENCE = 8.0
#: Seconds between looks at whether a job is to stop while its files are looked for.
POLL = 0.05
#: Seconds for which the cluster may take to place an actor.
PLACING = 120.0


class ActorLink:
    """Implements :class:`latentd.api.FarLink` by an actor, which this starts.

    It asks the actor one thing after another: for a greeting, to begin, and from then on for news.

    :param name: name of the place.
    :param settings: the server's, with the folders of the cluster's machines.
    :param may_send: whether model files may be copied there.
    """

    def __init__(self, name: str, cluster: Cluster, settings: Settings, *, may_send: bool) -> None:
        self._name = name
        self._cluster = cluster
        self._settings = settings
        self._actor = cluster.new_actor()
        self._where = f"the actor of {name}"
        self._supply = Supply(self, may_send=may_send)
        self.machine = ""
        self._heard: deque[FarNews] = deque()
        self._works = False
        self._ask(CONTROL, "greet", then=self._greeted)

    def send(self, message: FarMessage) -> None:
        """Send ``message``, and wait until the actor has it.

        :raises LinkLost: the actor has ended, or does not answer.
        """
        taken = self._call(TELL, "tell", message)
        if not self._is_there(taken, SILENCE):
            raise LinkLost(f"{self._where} has taken no message for {SILENCE:.0f} s")
        self._get(taken)

    def receive(self, timeout: float) -> FarNews | None:
        """The next news within ``timeout`` seconds.

        :raises LinkLost: the actor has ended, or has said nothing for too long.
        """
        if not self._heard:
            self._listen(timeout)
        return self._heard.popleft() if self._heard else None

    def supply(self, files: Callable[[], Sequence[NeededFile]], control: JobControl) -> bool:
        """Make sure that the actor's machine has ``files``; whether some are new to it.

        :raises FileMissing: it lacks one, and must not be sent it.
        :raises LinkLost: the actor has ended.
        """
        return self._supply.provide(files, control)

    def ask(self, method: str, *arguments: object, control: JobControl) -> object:
        """The answer of the actor's method; news are heard meanwhile.

        :raises LatentdError: what it raised.
        :raises Interrupted: the job was stopped. :raises LinkLost: the actor has ended.
        """
        answer = self._call(CONTROL, method, *arguments)
        while not self._is_there(answer, POLL):
            control.check()
            self._listen(0.0)
        return self._get(answer)

    def _listen(self, timeout: float) -> None:
        """Hear the answer to what was asked last if it comes within ``timeout`` seconds, and ask the next."""
        if self._is_there(self._asked, timeout):
            self._then(self._get(self._asked))
        else:
            self._check_patience()

    def end(self) -> None:
        """Kill the actor's process, or have it never start."""
        import ray

        with suppress(Exception):  # it has ended, or the cluster is gone
            ray.kill(self._actor)

    def _is_there(self, answer: ObjectRef[object], timeout: float) -> bool:
        import ray

        return bool(ray.wait([answer], timeout=timeout)[0])

    def _get(self, answer: ObjectRef[object]) -> object:
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            found: object = ray.get(answer)
        except RayTaskError as error:
            if isinstance(error.cause, LatentdError):
                raise error.cause from None
            raise LinkLost(f"{self._where} failed ({reason(error)})") from error
        except RayError as error:
            raise LinkLost(f"{self._where} ended ({reason(error)})") from error
        return found

    # --- one question after another ----------------------------------------------------------------------------------

    def _call(self, group: str, method: str, *arguments: object) -> ObjectRef[object]:
        ref: ObjectRef[object] = getattr(self._actor, method).options(concurrency_group=group).remote(*arguments)
        return ref

    def _ask(self, group: str, method: str, *arguments: object, then: Callable[..., None]) -> None:
        self._asked, self._then, self._since = self._call(group, method, *arguments), then, time.monotonic()

    def _greeted(self, greeting: Greeting) -> None:
        host, process, versions = greeting
        self.machine = host
        self._where = f"the actor of {self._name} (process {process} on {host})"
        if found := difference(versions_here(), versions):
            hint = "install the same versions on every machine of the cluster, and start its Ray again"
            self._refuse(DeviceLost(f"{host} has other versions than this server: {found}", hint=hint))
            return
        log.info("process %s on %s drives %s", process, host, self._name)
        self._ask(CONTROL, "begin", self._settings, then=self._begun)

    def _begun(self, _nothing: None) -> None:
        self._ask(NEWS, "news", then=self._told)

    def _told(self, news: list[FarNews]) -> None:
        self._works = self._works or any(isinstance(one, FarReady) for one in news)
        self._heard.extend(news)
        self._ask(NEWS, "news", then=self._told)

    def _refuse(self, error: DeviceLost) -> None:
        self._heard.append(FarUnable.because_of(error))

    def _check_patience(self) -> None:
        """Give up an actor that has not answered for too long.

        :raises LinkLost: it could work before.
        """
        waited = time.monotonic() - self._since
        if self._works and waited > SILENCE:
            raise LinkLost(f"{self._where} has not been heard of for {waited:.0f} s")
        if self._then == self._greeted and waited > PLACING:
            wants, free = _amounts(self._cluster.wants), _amounts(self._cluster.free())
            hint = "add machines, or see --ray-gpus, --ray-cpus, --ray-resources and --ray-labels"
            self._refuse(DeviceLost(f"the cluster has no place for an actor with {wants}; free are {free}", hint=hint))


def _amounts(resources: dict[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in sorted(resources.items())) or "nothing"


def reason(error: Exception) -> str:
    """The telling sentence of an error of Ray's, which has a dozen lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any("No module named 'latentd" in line for line in lines):
        return "latentd or latentd-ray is not installed there"
    telling = [line for line in lines if "died" in line]
    return (telling or lines or [type(error).__name__])[-1].partition(". ")[0].rstrip(".")
