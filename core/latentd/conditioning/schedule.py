"""Conditioning of a batch over the sampling steps: composed, scheduled positives and scheduled negatives."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from latentd.conditioning.embeddings import Embedding
from latentd.conditioning.encode import Encoded, TextConditioner, TextSettings
from latentd.prompts.composition import split_composition
from latentd.prompts.editing import Segment, schedule, segment_at

Padding = Literal["none", "empty", "v0"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """The arguments that turn the numbers of prompt editing into steps: :func:`latentd.prompts.editing.schedule`."""

    steps: int
    hires_steps: int | None = None
    use_old: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Scheduled:
    """One text over the steps: its segments and the encoding of each."""

    segments: tuple[Segment, ...]
    encoded: tuple[Encoded, ...]

    def at(self, call: int) -> Encoded:
        """The encoding that model call ``call`` (0-based) uses: :func:`latentd.prompts.editing.segment_at`."""
        return self.encoded[self.segments.index(segment_at(self.segments, call))]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchConditioning:
    """The tensors of one model call.

    ``context`` [R,n,d] and ``vector`` [R,k] (None without SDXL) are the positives: one row per part of every picture's
    composition, picture after picture. ``parts[i]`` lists picture i's rows and weights. ``negative_context`` [B,m,d]
    and ``negative_vector`` [B,k] have one row for each picture. ``padded`` is the infotext key of the option by which
    texts were padded.
    """

    context: Tensor
    vector: Tensor | None
    negative_context: Tensor
    negative_vector: Tensor | None
    parts: tuple[tuple[tuple[int, float], ...], ...]
    padded: str | None = None

    @property
    def image_index(self) -> list[int]:
        """The picture of every positive row."""
        return [image for image, rows in enumerate(self.parts) for _ in rows]


@dataclass(slots=True, kw_only=True, eq=False)
class Conditioning:
    """Conditioning of a batch of pictures for one pass; ``at`` gives the tensors of a model call.

    ``used`` lists the embeddings in the texts, once for each encoder of each different text, from the last positive
    text to the first negative one.
    """

    positive: tuple[tuple[tuple[Scheduled, float], ...], ...]
    negative: tuple[Scheduled, ...]
    used: tuple[Embedding, ...]
    device: torch.device
    empty: Tensor | None = None
    padding: Padding = "none"
    _last: tuple[Hashable, BatchConditioning] | None = None

    def at(self, call: int) -> BatchConditioning:
        """Tensors for model call ``call`` (0-based); as long as no text changes, the same object is returned."""
        chosen = [[(s.at(call), weight) for s, weight in parts] for parts in self.positive]
        negative = [s.at(call) for s in self.negative]
        key = tuple(id(e) for parts in chosen for e, _ in parts) + tuple(id(e) for e in negative)
        if self._last is None or self._last[0] != key:
            self._last = (key, self._stack(chosen, negative))
        return self._last[1]

    def _stack(
        self, chosen: Sequence[Sequence[tuple[Encoded, float]]], negative: Sequence[Encoded]
    ) -> BatchConditioning:
        rows: list[Encoded] = []
        parts: list[tuple[tuple[int, float], ...]] = []
        for picture in chosen:
            start = len(rows)
            rows += [encoded for encoded, _ in picture]
            parts.append(tuple((start + i, weight) for i, (_, weight) in enumerate(picture)))
        context, negative_context = stack_contexts(rows), stack_contexts(negative)
        context, negative_context, padded = _pad(context, negative_context, self.padding, self.empty)
        return BatchConditioning(
            context=context.to(self.device),
            vector=_vectors(rows, self.device),
            negative_context=negative_context.to(self.device),
            negative_vector=_vectors(negative, self.device),
            parts=tuple(parts),
            padded=padded,
        )


def build_conditioning(
    conditioner: TextConditioner,
    prompts: Sequence[str],
    negatives: Sequence[str],
    settings: TextSettings,
    timetable: Timetable,
    *,
    padding: Padding = "none",
    check: Callable[[], None] = lambda: None,
) -> Conditioning:
    """Conditioning for one batch.

    Prompts are split at AND, negative prompts are not. Equal texts are encoded once.

    :param prompts: one for each picture, without tags and comments.
    :param negatives: negative prompts, one for each picture.
    :param padding: ``empty`` for option pad_cond_uncond, ``v0`` for pad_cond_uncond_v0.
    :param check: called between pieces of the work; an exception that it raises ends it.
    :raises ValueError: the two lists differ in length, or are empty.
    """
    if not prompts or len(prompts) != len(negatives):
        raise ValueError(f"{len(prompts)} prompts with {len(negatives)} negative prompts")
    used: dict[tuple[str, bool], list[Embedding]] = {}

    def scheduled(text: str, *, negative: bool) -> Scheduled:
        encoded, used[text, negative] = encode_scheduled(
            conditioner, text, settings, timetable, negative=negative, check=check
        )
        return encoded

    negative = tuple(scheduled(text, negative=True) for text in negatives)
    positive = tuple(
        tuple((scheduled(part.text, negative=False), part.weight) for part in split_composition(prompt))
        for prompt in prompts
    )
    encoders = len(conditioner.model.text_encoders)
    empty = conditioner.encode([""], settings)[0][0].context if padding == "empty" else None
    return Conditioning(
        positive=positive,
        negative=negative,
        used=tuple(embedding for found in reversed(used.values()) for embedding in found * encoders),
        device=conditioner.model.device,
        empty=empty,
        padding=padding,
    )


def encode_scheduled(
    conditioner: TextConditioner,
    text: str,
    settings: TextSettings,
    timetable: Timetable,
    *,
    negative: bool = False,
    check: Callable[[], None] = lambda: None,
) -> tuple[Scheduled, list[Embedding]]:
    """One text over the steps, and the embeddings in it; see :meth:`TextConditioner.encode`."""
    segments = schedule(text, timetable.steps, timetable.hires_steps, timetable.use_old)
    encoded, used = conditioner.encode([s.text for s in segments], settings, negative=negative, check=check)
    return Scheduled(tuple(segments), tuple(encoded)), used


def stack_contexts(rows: Sequence[Encoded]) -> Tensor:
    """The contexts as [R,n,d], n being the longest; shorter ones repeat their last vector (rules: a1111-guidance)."""
    longest = max(row.context.shape[0] for row in rows)
    return torch.stack([_repeat_last(row.context, longest) for row in rows])


def _repeat_last(context: Tensor, length: int) -> Tensor:
    """``context`` [..,n,d] with its last vector repeated up to ``length``."""
    missing = length - context.shape[-2]
    if missing <= 0:
        return context
    return torch.cat([context, context[..., -1:, :].expand(*context.shape[:-2], missing, -1)], dim=-2)


def _vectors(rows: Sequence[Encoded], device: torch.device) -> Tensor | None:
    found = [row.vector for row in rows if row.vector is not None]
    return torch.stack(found).to(device) if found else None


def _pad(cond: Tensor, uncond: Tensor, padding: Padding, empty: Tensor | None) -> tuple[Tensor, Tensor, str | None]:
    """Both sides at equal length if ``padding`` asks for it, and the infotext key to write if that changed them."""
    if padding == "none" or cond.shape[1] == uncond.shape[1]:
        return cond, uncond, None
    if padding == "v0":
        return cond, _repeat_last(uncond, cond.shape[1])[:, : cond.shape[1]], "Pad conds v0"
    assert empty is not None
    repeats = (cond.shape[1] - uncond.shape[1]) // empty.shape[0]
    if repeats > 0:
        return cond, _with_empty(uncond, empty, repeats), "Pad conds"
    return _with_empty(cond, empty, -repeats), uncond, "Pad conds"


def _with_empty(context: Tensor, empty: Tensor, repeats: int) -> Tensor:
    return torch.cat([context, empty.to(context).repeat(repeats, 1).expand(context.shape[0], -1, -1)], dim=1)
