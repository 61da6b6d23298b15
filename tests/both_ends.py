"""How files are handed out to the processes of a run: some take the first, some the last that is left."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController


class FromBothEnds(LoadFileScheduling):
    """Whole files, as ``--dist loadfile``, but in their order: every other process begins at the end of it.

    Files that share a server follow one another, so that one process has most of them and starts the server; the short
    files in the middle even out when the processes end.
    """

    def _assign_work_unit(self, node: WorkerController) -> None:
        if self.nodes.index(node) % 2:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)
