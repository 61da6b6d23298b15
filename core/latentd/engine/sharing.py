"""What lets a waiting job be carried out together with others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentd.engine.job import Job

#: Ends one job: with its result, or with what it raised.
Conclude = Callable[["Job[Any]", Any, BaseException | None], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Share:
    """One job's part in shared work.

    Jobs whose ``key`` is equal may be handed to one ``work(jobs, conclude)``, which concludes each as soon as it has
    ended; together their ``size`` stays within the engine's limit. ``content`` is what ``work`` needs of this job.
    """

    key: object
    size: float
    content: Any
    work: Callable[[Sequence[Job[Any]], Conclude], None]
