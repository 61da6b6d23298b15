"""Options of plugins in infotexts: written where they differ from their default, and read back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.conftest import drawing_on, services_on

from latentd.api import OptionSpec, hookimpl
from latentd.server.schemas.generation import Txt2ImgRequest
from latentd.server.services import AppServices


class Plugin:
    @hookimpl
    def register_options(self) -> list[OptionSpec]:
        return [
            OptionSpec(key="frame_on", default=False, help="draw a frame", infotext="Frame"),
            OptionSpec(key="frame_width", default=8, help="its width", infotext="Frame width"),
            OptionSpec(key="frame_colour", default="black", help="its colour", infotext="Frame colour"),
            OptionSpec(key="frame_secret", default="", help="stays out of infotexts"),
        ]


@pytest.fixture(scope="module")
def framed(data: Path) -> Iterator[AppServices]:
    services = services_on(data, plugins=[("frame", Plugin())])
    yield services
    services.close()


OPTIONS: dict[str, Any] = {"frame_on": True, "frame_colour": "red, white", "frame_secret": "x"}


def test_what_differs_from_the_default_is_written(framed: AppServices) -> None:
    infotext = str(drawing_on(framed)(OPTIONS).images[0].infotext)
    assert 'Frame: True, Frame colour: "red, white"' in infotext
    assert "Frame width" not in infotext
    assert "Frame" not in str(drawing_on(framed)().images[0].infotext)


def test_a_pasted_infotext_sets_them_again(framed: AppServices) -> None:
    infotext = str(drawing_on(framed)(OPTIONS).images[0].infotext)

    async def again() -> Any:
        job, _ = await framed.submit_body(Txt2ImgRequest(infotext=infotext))
        return await job.wait()

    assert asyncio.run(again()).images[0].infotext == infotext
