"""A server process under a limit of memory: what does not fit is refused, and the next request works."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.calls import BASE
from tests.reference_server import start_reference_server

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
    with start_reference_server(live_data, "--core-only", before=little_memory) as server:
        assert server.call("POST", "/sdapi/v1/txt2img", BASE)[0] == 200
        for body in bodies:
            status, reply = server.call("POST", "/sdapi/v1/txt2img", {**BASE, **body, "steps": 1})
            assert status == 413, reply
            assert "GiB" in reply["detail"]
            assert "batch_size" in reply["hint"]
        assert server.call("POST", "/sdapi/v1/txt2img", BASE)[0] == 200
