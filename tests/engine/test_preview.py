"""When previews are due, and that one preview is encoded once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from PIL import Image

from latentd.engine.preview import PreviewCache, preview_due
from latentd.types import ProgressState

DEFAULTS = {"live_previews_enable": True, "show_progress_every_n_steps": 10, "show_progress_type": "Approx NN"}


def shown_at(options: dict[str, Any], *, steps: int, watched: bool = True) -> list[int]:
    """Steps of one pass after which a preview is made."""
    state = ProgressState(job_count=1, sampling_steps=steps)
    made = []
    for step in range(1, steps + 1):
        state.sampling_step = step
        if preview_due(state, {**DEFAULTS, **options}, watched=watched):
            state.preview_step = step
            made.append(step)
    if preview_due(state, {**DEFAULTS, **options}, batch_end=True, watched=watched):
        made.append(-1)
    return made


@pytest.mark.parametrize(
    ("options", "steps", "expected"),
    [
        ({}, 30, [10, 20, 30]),
        ({"show_progress_every_n_steps": 3}, 10, [3, 6, 9]),
        ({"show_progress_every_n_steps": 0}, 3, [1, 2, 3]),
        ({"show_progress_every_n_steps": 1}, 3, [1, 2, 3]),
        ({"show_progress_every_n_steps": -1}, 30, [-1]),
        ({"live_previews_enable": False}, 30, []),
        ({"live_previews_enable": False, "show_progress_every_n_steps": -1}, 30, []),
    ],
)
def test_previews_come_every_n_steps(options: dict[str, Any], steps: int, expected: list[int]) -> None:
    assert shown_at(options, steps=steps) == expected


def test_decoder_previews_are_made_for_an_audience_only() -> None:
    assert shown_at({"show_progress_type": "Full"}, steps=20, watched=False) == []
    assert shown_at({"show_progress_type": "Full"}, steps=20) == [10, 20]
    assert shown_at({"show_progress_type": "Approx cheap"}, steps=20, watched=False) == [10, 20]


def test_a_new_pass_counts_its_steps_anew() -> None:
    state = ProgressState(job_count=2, sampling_step=12, preview_step=10)
    state.next_job()
    state.sampling_step = 9
    assert not preview_due(state, DEFAULTS)
    state.sampling_step = 10
    assert preview_due(state, DEFAULTS)


def test_100_polls_encode_once_and_never_on_the_loop() -> None:
    encoded_on: list[int] = []

    def encode_now(image: Image.Image) -> str:
        encoded_on.append(threading.get_ident())
        return f"{image.size}"

    async def encode(image: Image.Image) -> str:
        return await asyncio.to_thread(encode_now, image)

    async def main() -> list[str | None]:
        cache = PreviewCache()
        state = ProgressState(preview=Image.new("RGB", (3, 4)), preview_id=1)
        texts = await asyncio.gather(*(cache.text("a", state, "png", encode) for _ in range(100)))
        state.preview, state.preview_id = Image.new("RGB", (5, 6)), 2
        return [*texts, await cache.text("a", state, "png", encode), await cache.text("a", state, "jpg", encode)]

    texts = asyncio.run(main())
    assert texts == ["(3, 4)"] * 100 + ["(5, 6)"] * 2
    assert len(encoded_on) == 3
    assert threading.get_ident() not in encoded_on


def test_a_client_that_hangs_up_does_not_take_the_preview_from_the_others() -> None:
    async def main() -> str | None:
        let = asyncio.Event()

        async def encode(image: Image.Image) -> str:
            await let.wait()
            return "text"

        cache = PreviewCache()
        state = ProgressState(preview=Image.new("RGB", (1, 1)), preview_id=1)
        first = asyncio.create_task(cache.text("a", state, "png", encode))
        second = asyncio.create_task(cache.text("a", state, "png", encode))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        let.set()
        return await second

    assert asyncio.run(main()) == "text"


def test_no_preview_is_none() -> None:
    async def encode(image: Image.Image) -> str:
        raise AssertionError("there is nothing to encode")

    assert asyncio.run(PreviewCache().text("a", ProgressState(), "png", encode)) is None
