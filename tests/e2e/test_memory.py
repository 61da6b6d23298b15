"""A server process under a limit of memory: what does not fit is refused, and the next request works."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.e2e.calls import BASE
from tests.reference_server import start_reference_server

from latentd.images.codecs import encode_base64

LIMIT = 6 << 30

pytestmark = pytest.mark.slow


def little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))


def test_what_memory_cannot_hold_is_refused_and_the_next_request_works(live_data: Path) -> None:
    bodies: list[dict[str, Any]] = [
        {"width": 4096, "height": 4096},
        {"width": 512, "height": 512, "batch_size": 256},
        {"enable_hr": True, "hr_upscaler": "Latent", "hr_resize_x": 7900, "hr_resize_y": 7900},
    ]
    with start_reference_server(live_data, "--plugins", "upscalers", before=little_memory) as server:
        assert server.call("POST", "/sdapi/v1/txt2img", BASE)[0] == 200
        for body in bodies:
            status, reply = server.call("POST", "/sdapi/v1/txt2img", {**BASE, **body, "steps": 1})
            assert status == 413, reply
            assert "GiB" in reply["detail"]
            assert "batch_size" in reply["hint"]
        # Twice by 4 on the way to 5: 24000x24000.
        large = {"image": encode_base64(Image.new("RGB", (1500, 1500), "teal"), format="png"), "upscaling_resize": 5}
        status, reply = server.call("POST", "/sdapi/v1/extra-single-image", {**large, "upscaler_1": "TinyRRDB_x4"})
        assert status == 413, reply
        assert "enlarging 1500x1500 to 24000x24000 needs at least" in reply["detail"]
        small = {"image": encode_base64(Image.new("RGB", (48, 32), "teal"), format="png"), "upscaler_1": "TinyRRDB_x4"}
        assert server.call("POST", "/sdapi/v1/extra-single-image", small)[0] == 200
        assert server.call("POST", "/sdapi/v1/txt2img", BASE)[0] == 200
