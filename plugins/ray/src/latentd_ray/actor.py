"""What runs on the machines of the cluster: one actor a place, with a far side of the server in it."""

from __future__ import annotations

import os
import queue
import threading

from latentd.api import FarMessage, FarNews, NeededFile, Settings, serve_far
from latentd_ray.node_files import Finding, NodeFiles
from latentd_ray.versions import versions_here

#: Seconds after which an actor without news says that it has none.
BEAT = 1.0
#: Its methods run on three threads, so that it hears and answers while it works.
CONTROL, TELL, NEWS = "control", "tell", "news"
CONCURRENCY = {CONTROL: 1, TELL: 1, NEWS: 1}


class Channel:
    """Implements :class:`latentd.api.FarChannel` by two queues."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[FarMessage] = queue.SimpleQueue()
        self.outbox: queue.SimpleQueue[FarNews] = queue.SimpleQueue()

    def send(self, news: FarNews) -> None:
        """Let the server's next question have ``news``; on any thread."""
        self.outbox.put(news)

    def receive(self) -> FarMessage:
        """Wait for the next message. Ray ends the actor when the server is gone."""
        return self.inbox.get()


class LatentdActor:
    """A far side in an actor's process. Only plain values are exchanged before the versions are known to be equal."""

    def __init__(self) -> None:
        self._channel = Channel()

    def greet(self) -> tuple[str, int, dict[str, str]]:
        """The machine's address, this process's id, and :func:`latentd_ray.versions.versions_here`."""
        import ray

        return ray.util.get_node_ip_address(), os.getpid(), versions_here()

    def begin(self, settings: Settings) -> None:
        """Start the far side with the server's settings, and the folders of this machine."""
        self._files = NodeFiles(settings)
        threading.Thread(target=serve_far, args=(self._channel, settings), name="latentd", daemon=True).start()

    def tell(self, message: FarMessage) -> None:
        """Pass ``message`` on to the far side."""
        self._channel.inbox.put(message)

    def news(self) -> list[FarNews]:
        """What the far side has sent since the last call, after at most ``BEAT`` seconds; empty if nothing."""
        found: list[FarNews] = []
        try:
            found.append(self._channel.outbox.get(timeout=BEAT))
            while True:
                found.append(self._channel.outbox.get_nowait())
        except queue.Empty:
            return found

    # --- model files -------------------------------------------------------------------------------------------------

    def find_files(self, files: list[NeededFile]) -> list[Finding]:
        """Where the files are on this machine; one answer for each."""
        return [self._files.find(file) for file in files]

    def take_piece(self, file: NeededFile, offset: int, data: bytes) -> None:
        """As of :meth:`latentd_ray.node_files.NodeFiles.take`."""
        self._files.take(file, offset, data)

    def finish_file(self, file: NeededFile) -> None:
        """As of :meth:`latentd_ray.node_files.NodeFiles.finish`."""
        self._files.finish(file)
