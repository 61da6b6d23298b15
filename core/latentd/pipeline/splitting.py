"""How a generation may be divided among workers, decided from its plan only and, in doubt, against dividing. No torch.

Whole batches go to different workers where there are enough of them: their pictures are the same to the bit. A batch
is cut where nothing that is computed for one of its pictures depends on the others, but for the rounding of matrix
products.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from latentd.pipeline.img2img_init import LATENT_NOISE
from latentd.pipeline.sharing_key import HYPERTILE, NETWORKS, SAMPLING_HOOKS
from latentd.prompts.networks import extract_networks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from latentd.generations import Plan
    from latentd.pipeline.needs import WorkerServices

#: Hooks that are given the generation. A divided one has no latents or conditioning where its pictures are finished,
#: and where they are sampled it is not whole.
_HOOKS = (*SAMPLING_HOOKS, "postprocess_image", "before_save", "infotext", "after_process")


@dataclass(frozen=True, slots=True)
class Cut:
    """The pictures ``first`` to ``stop`` of batch number ``index``."""

    index: int
    first: int
    stop: int

    @property
    def count(self) -> int:
        """How many they are."""
        return self.stop - self.first


def can_split(plan: Plan, services: WorkerServices) -> bool:
    """Whether the batches of ``plan`` may be drawn by different workers."""
    options = plan.options
    saves_between = plan.hires is not None and plan.save_samples and options["save_images_before_highres_fix"]
    whole = (
        len(plan.prompts) < 2
        # They see the whole job, or keep something of one batch for the next.
        or plan.script is not None
        or plan.alwayson
        or any(services.hooks.implemented(hook) for hook in _HOOKS)
        or any(tag.name not in NETWORKS for prompt in _prompts(plan) for tag in extract_networks(prompt)[1])
        # Tiles are drawn from one generator for all batches.
        or any(options[key] for key in (*HYPERTILE, "hypertile_enable_vae"))
        # With this option, networks that an earlier job left on a worker stay.
        or plan.request.disable_extra_networks
        # Files are numbered in the order in which they are written.
        or saves_between
    )
    return not whole


def can_cut(plan: Plan) -> bool:
    """Whether also the pictures of one batch may be drawn by different workers, of a plan that :func:`can_split`."""
    request = plan.request
    together = (
        # Prompts of one batch are encoded to one length, and its first one names the networks.
        any(len(set(texts)) > 1 for texts in _texts(plan))
        # One decision is made for all pictures of a batch.
        or plan.sampler.spec.couples_batch
        or (plan.hires is not None and plan.hires.sampler.spec.couples_batch)
        or float(plan.options["step_cache_threshold"]) > 0
        # Each picture has its own beginning.
        or len(request.init_images) > 1
        or (request.mask is not None and request.inpainting_fill == LATENT_NOISE)
    )
    return not together


def cut(plan: Plan, count: int) -> list[tuple[Cut, ...]]:
    """What each of ``count`` workers draws, in the order of the pictures; about as many pictures each.

    :param count: at most the number of batches; of pictures, if batches may be cut.
    """
    batches = _batches(plan)
    if len(batches) >= count:
        return [tuple(batches[a:b]) for a, b in _ranges(len(batches), count)]
    return [_between(batches, plan.batch_size, a, b) for a, b in _ranges(len(plan.prompts), count)]


def most_parts(plan: Plan) -> int:
    """How many workers may draw ``plan``, which :func:`can_split`."""
    return len(plan.prompts) if can_cut(plan) else len(_batches(plan))


def _ranges(total: int, count: int) -> Iterator[tuple[int, int]]:
    """``total`` things in ``count`` parts that differ by one at most, as (first, stop) of each."""
    return pairwise(total * number // count for number in range(count + 1))


def _batches(plan: Plan) -> list[Cut]:
    """The batches that are not empty."""
    size = plan.batch_size
    counts = [min(size, len(plan.prompts) - index * size) for index in range(plan.n_iter)]
    return [Cut(index, 0, count) for index, count in enumerate(counts) if count > 0]


def _between(batches: Sequence[Cut], size: int, first: int, stop: int) -> tuple[Cut, ...]:
    """The pictures ``first`` to ``stop`` of all, by batch."""
    parts = (Cut(b.index, max(first - b.index * size, 0), min(stop - b.index * size, b.stop)) for b in batches)
    return tuple(part for part in parts if part.count > 0)


def _prompts(plan: Plan) -> set[str]:
    return {*plan.prompts, *(plan.hires.prompts if plan.hires else ())}


def _texts(plan: Plan) -> Sequence[Sequence[str]]:
    hires = plan.hires
    return (plan.prompts, plan.negative_prompts, *((hires.prompts, hires.negative_prompts) if hires else ()))
