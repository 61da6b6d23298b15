"""Previews over ``/internal/progress`` in the format of option ``live_previews_image_format``."""

from __future__ import annotations

import asyncio
import base64
import io
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from latentd.options import OptionStore
from latentd.server.routes import internal


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_previews_come_in_the_options_format(format: str) -> None:
    options = OptionStore()
    options.update({"live_previews_image_format": format})
    services: Any = SimpleNamespace(options=options, engine=None)
    _, encode = internal._Tasks(services)._encoder()
    text = asyncio.run(encode(Image.new("RGB", (4, 6), "red")))  # type: ignore[arg-type]
    kind, data = text.split(",")
    assert kind == f"data:image/{format};base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert (image.format, image.size) == (format.upper(), (4, 6))
