"""When a live preview is due, and the latest previews encoded once however many clients ask."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.types import ProgressState

#: Values of ``show_progress_type`` that cost a decoder; made only when somebody looks.
COSTLY_TYPES = frozenset(("Full", "TAESD"))


def preview_due(
    state: ProgressState, options: Mapping[str, Any], *, batch_end: bool = False, watched: bool = True
) -> bool:
    """Whether the worker should decode a preview now (rules: a1111-progress).

    Due when ``show_progress_every_n_steps`` steps have gone by since the last one, counted within the pass; with -1
    only at the end of a batch; never with ``live_previews_enable`` off. A1111 decodes when it is polled; the worker
    alone owns torch here, so it decodes ahead, and the costly kinds only for jobs that are ``watched``.
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
    """Encoded previews by job, preview and format: 100 polls of one preview encode it once.

    Lives on one event loop. ``size`` bounds how many texts are kept.
    """

    def __init__(self, size: int = 8) -> None:
        self._size = size
        self._texts: OrderedDict[tuple[str, int, str], asyncio.Task[str]] = OrderedDict()

    async def text(
        self, job_id: str, state: ProgressState, variant: str, encode: Callable[[Image], Awaitable[str]]
    ) -> str | None:
        """The latest preview of ``state`` as ``encode`` gives it, or None while there is none.

        :param variant: names the format, since one preview may be asked for in several.
        :param encode: called once a preview and variant; should do its work off the event loop.
        :raises Exception: what ``encode`` raises, on each call.
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
        # Shielded: a client that hangs up must not take the text from the others.
        return await asyncio.shield(task)


async def _run(encode: Callable[[Image], Awaitable[str]], image: Image) -> str:
    return await encode(image)
