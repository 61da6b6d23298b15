"""Which generations are divided among workers, by flag ``--split-batches``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from latentd.executors import Division, Part, PortableWork
from latentd.pipeline.splitting import can_split, cut, most_parts
from latentd.server import work

if TYPE_CHECKING:
    from latentd.generations import Plan
    from latentd.pipeline.divided import DrawnPart
    from latentd.pipeline.needs import WorkerServices
    from latentd.types import Result

T = TypeVar("T")


def division_of(plan: Plan, services: WorkerServices, whole: PortableWork[Result]) -> Division[Result] | None:
    """How ``whole``, which draws ``plan``, may be divided; None if one worker must draw it, and without the flag."""
    if not services.settings.split_batches or not can_split(plan, services):
        return None
    most = most_parts(plan)
    if most < 2:
        return None

    def portable(function: Callable[..., T], *arguments: object) -> PortableWork[T]:
        return PortableWork(
            function=function, arguments=arguments, services=services, home=whole.home, files=whole.files
        )

    def parts(count: int) -> list[Part]:
        total = len(plan.prompts)
        return [
            Part(work=portable(work.draw_part, plan, cuts), share=sum(one.count for one in cuts) / total)
            for cuts in cut(plan, count)
        ]

    def join(drawn: Sequence[DrawnPart]) -> PortableWork[Result]:
        return portable(work.join_parts, plan, tuple(drawn))

    return Division(most=most, count=plan.n_iter * (2 if plan.hires else 1), cut=parts, join=join)
