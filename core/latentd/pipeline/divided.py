"""A generation that several workers carry out: some pictures are drawn by each, all are finished by one of them.

Faces, overlays, infotexts, files and the grid are made where the pictures come together, one after another, so that
they are those of a generation that one worker carries out.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import torch

from latentd.errors import Interrupted
from latentd.models.vae import circular_padding
from latentd.pipeline.generation import Batch
from latentd.pipeline.output.saving import is_cut_short
from latentd.pipeline.passes.sampling import run_through
from latentd.pipeline.run import (
    begin,
    draw_batch,
    finish_batch,
    new_generation,
    prepare_init,
    prepare_start,
    reply,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from PIL.Image import Image

    from latentd.generations import Plan
    from latentd.pipeline.generation import RunningGeneration
    from latentd.pipeline.needs import WorkerServices
    from latentd.pipeline.passes.sampling_pass import Sampling
    from latentd.pipeline.splitting import Cut
    from latentd.types import GeneratedImage, JobControl, JsonValue, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Decoded pictures of one batch, and what else their infotexts and files depend on.

    :ivar index: the number of the batch. :ivar first: the first picture's number in it.
    :ivar infotext: the entries for every picture's infotext, so far.
    :ivar cut_short: whether an interrupt or a skip ended the batch early.
    """

    index: int
    first: int
    pictures: tuple[Image, ...]
    infotext: Mapping[str, JsonValue]
    used_ensd: bool
    cut_short: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnPart:
    """What one worker has drawn; ``timestamp`` is the progress's when it began."""

    drawn: tuple[Drawn, ...]
    timestamp: str
    interrupted: bool


def draw_part(plan: Plan, cuts: Sequence[Cut], services: WorkerServices, control: JobControl) -> DrawnPart:
    """Draw the pictures ``cuts`` of ``plan`` and leave them unfinished.

    :raises Interrupted: the job was cancelled. :raises LatentdError: a feature failed.
    """
    timestamp = control.progress.job_timestamp
    control.progress.job_count = len(cuts) * (2 if plan.hires else 1)
    with closing(new_generation(plan, services, control)) as gen, torch.inference_mode():
        drawn = run_through(_part_stages(gen, cuts))
    return DrawnPart(drawn=drawn, timestamp=timestamp, interrupted=bool(control.progress.interrupted))


def _part_stages(gen: RunningGeneration, cuts: Sequence[Cut]) -> Sampling[tuple[Drawn, ...]]:
    begin(gen)
    drawn = []
    with circular_padding(gen.model, gen.plan.tiling):
        start = prepare_start(gen, save=False)
        for cut in cuts:
            if not gen.control.begin_batch():
                break
            pictures = yield from draw_batch(gen, Batch.of(gen.plan, cut.index, cut.first, cut.stop), start)
            drawn.append(
                Drawn(
                    index=cut.index,
                    first=cut.first,
                    pictures=tuple(pictures),
                    infotext=dict(gen.infotext),
                    used_ensd=gen.used_ensd,
                    cut_short=is_cut_short(gen),
                )
            )
    return tuple(drawn)


def join_parts(plan: Plan, parts: Sequence[DrawnPart], services: WorkerServices, control: JobControl) -> Result:
    """The result of ``plan``, whose pictures have been drawn in ``parts``, in their order.

    :raises Interrupted: the job was cancelled. :raises LatentdError: a feature failed.
    """
    progress = control.progress
    progress.job_timestamp = parts[0].timestamp
    progress.interrupted = progress.interrupted or any(part.interrupted for part in parts)
    with closing(new_generation(plan, services, control)) as gen, torch.inference_mode():
        begin(gen)
        init = prepare_init(gen)
        known = dict(gen.infotext)
        images: list[GeneratedImage] = []
        for index, drawn in groupby((drawn for part in parts for drawn in part.drawn), key=lambda drawn: drawn.index):
            if control.stop_requested() == "cancel":
                raise Interrupted(f"{control.id}: cancel")
            gen.current = Batch.of(plan, index)
            images += finish_batch(gen, _pictures(gen, drawn, known), init)
        return reply(gen, images)


def _pictures(
    gen: RunningGeneration, drawn: Iterable[Drawn], known: Mapping[str, JsonValue]
) -> list[tuple[int, Image]]:
    """The numbered pictures of one batch; what drawing them has noted is noted here as well.

    :param known: the infotext's entries before any picture was drawn.
    """
    numbered: list[tuple[int, Image]] = []
    gen.cut_short = False
    for part in drawn:
        gen.infotext.update({key: value for key, value in part.infotext.items() if known.get(key) != value})
        gen.used_ensd = gen.used_ensd or part.used_ensd
        gen.cut_short = gen.cut_short or part.cut_short
        numbered += enumerate(part.pictures, start=part.first)
    return numbered
