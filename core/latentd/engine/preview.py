"""When a live preview is due, and a cache of encoded previews, so that each is encoded once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from latentd.types import OptionValues

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.types import ProgressState

#: Values of ``show_progress_type`` that need a decoder; such previews are made only while a client asks for previews.
COSTLY_TYPES = frozenset(("Full", "TAESD"))


def preview_due(state: ProgressState, options: OptionValues, *, batch_end: bool = False, watched: bool = True) -> bool:
    """Whether the worker should decode a preview now (rules: a1111-progress).

    One is due ``show_progress_every_n_steps`` steps after the last, counted within the pass; with -1 only at the end of
    a batch; never with ``live_previews_enable`` off. AUTOMATIC1111 decodes when it is polled. Here only the worker may
    use torch, so it decodes in advance, and expensive previews only for jobs that are ``watched``.
    """
    if not options.get("live_previews_enable", True):
        return False
    if options.get("show_progress_type") in COSTLY_TYPES and not watched:
        return False
    every = int(options.get("show_progress_every_n_steps", 10))
    if every == -1:
        return batch_end
    return not batch_end and state.sampling_step > 0 and state.sampling_step - state.preview_step >= max(every, 1)


class PreviewCache:
    """Encoded previews by job, preview and format, so that 100 polls of one preview encode it once.

    To be used on one event loop. ``size`` is the greatest number of texts that are kept.
    """

    def __init__(self, size: int = 8) -> None:
        self._size = size
        self._texts: OrderedDict[tuple[str, int, str], asyncio.Task[str]] = OrderedDict()

    async def text(
        self, job_id: str, state: ProgressState, variant: str, encode: Callable[[Image], Awaitable[str]]
    ) -> str | None:
        """The latest preview of ``state``, encoded by ``encode``; None while there is none.

        :param variant: name of the format, because clients may ask for one preview in several formats.
        :param encode: called once for each preview and variant; should work outside the event loop.
        :raises Exception: the exception of ``encode``, on each call.
        """
        image = state.preview
        if image is None:
            return None
        key = (job_id, state.preview_id, variant)
        task = self._texts.get(key)
        if task is None:
            task = asyncio.ensure_future(_run(encode, image))
            self._texts[key] = task
            while len(self._texts) > self._size:
                self._texts.popitem(last=False)
        # Shielded, because a client that disconnects must not cancel the encoding for others.
        return await asyncio.shield(task)


async def _run(encode: Callable[[Image], Awaitable[str]], image: Image) -> str:
    return await encode(image)
