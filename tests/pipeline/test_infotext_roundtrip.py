"""What latentd writes it reads: the infotext of a picture draws the same picture, from a request and from a file."""

from __future__ import annotations

import asyncio
import base64
import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tests.pipeline.conftest import data as data
from tests.pipeline.random_requests import Body, random_request, repeated

from latentd.images.codecs import encode_image
from latentd.images.metadata import read_metadata
from latentd.server.schemas.generation import Img2ImgRequest, Txt2ImgRequest
from latentd.server.services import AppServices, create_services
from latentd.settings import parse_settings
from latentd.types import Result

OPTIONS = {
    "randn_source": "CPU",
    "sd_model_checkpoint": "tiny-a.safetensors",
    "disable_weights_auto_swap": False,
    "sd_checkpoints_limit": 4,
}
MANY = 300
FEW = 12


@pytest.fixture(scope="module")
def served(data: Path) -> Iterator[AppServices]:
    """The services with every plugin that is installed; torch's CPU noise."""
    settings = parse_settings(["--data-dir", str(data)], environment={})
    services = create_services(settings, serve_http=False)
    services.options.update(OPTIONS)
    yield services
    services.close()


def draw(services: AppServices, body: Body) -> Result:
    model = Img2ImgRequest if "init_images" in body else Txt2ImgRequest

    async def drawn() -> Result:
        job, _ = await services.submit_body(model.model_validate(body))
        return await job.wait()

    return asyncio.run(drawn())


def pixels(result: Result) -> np.ndarray[Any, Any]:
    return np.asarray(result.images[0].image)


def text_of(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, format="PNG")
    return base64.b64encode(out.getvalue()).decode()


def painted(rng: random.Random) -> str:
    image = Image.new("RGB", (72, 64), tuple(rng.randrange(256) for _ in range(3)))
    ImageDraw.Draw(image).ellipse((8, 8, 40, 50), fill=tuple(rng.randrange(256) for _ in range(3)))
    return text_of(image)


def masked(rng: random.Random) -> str:
    image = Image.new("L", (72, 64))
    left, top = rng.randrange(30), rng.randrange(24)
    ImageDraw.Draw(image).rectangle((left, top, left + 30, top + 30), fill=rng.choice((180, 255)))
    return text_of(image)


def squeezed(text: str | None) -> list[str]:
    """The lines of an infotext without white space at their ends, which reading takes off, and without empty ones.

    How a refiner would have been switched to is left out where none was, as its name is.
    """
    if "Refiner: " not in str(text):
        text = str(text).replace(", Refiner switch by sampling steps: True", "")
    return [line.strip() for line in str(text).splitlines() if line.strip()]


def round_trip(services: AppServices, number: int) -> None:
    """Draw a request, write and read its infotext as a file's, ask for that, and get the same picture and text."""
    rng = random.Random(number)
    body = random_request(rng, lambda: painted(rng), lambda: masked(rng))
    first = draw(services, body)
    written = str(first.images[0].infotext)
    kind = ("png", "jpg", "webp")[number % 3]
    file = encode_image(first.images[0].image, format=kind, info={"parameters": written})
    read, _ = read_metadata(Image.open(io.BytesIO(file)))
    assert read == written
    second = draw(services, repeated(body, read))
    shown = {key: value for key, value in body.items() if key not in ("init_images", "mask")}
    assert squeezed(second.images[0].infotext) == squeezed(written), shown
    assert np.array_equal(pixels(first), pixels(second)), (shown, written)


@pytest.mark.parametrize("number", range(FEW))
def test_an_infotext_draws_its_picture(served: AppServices, number: int) -> None:
    round_trip(served, number)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(FEW, MANY))
def test_an_infotext_draws_its_picture_at_length(served: AppServices, number: int) -> None:
    round_trip(served, number)
