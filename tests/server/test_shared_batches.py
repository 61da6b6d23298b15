"""How large shared batches may be, by device and flags."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from latentd.models.devices import DevicePolicy
from latentd.server.shared_batches import share_limit
from latentd.settings import parse_settings

GPU = {"device": "cuda:0", "dtype": "float16"}


@pytest.mark.parametrize(
    ("policy", "flags", "limit"),
    [
        (None, [], 0),
        ({}, [], 0),
        ({}, ["--share-batches", "3"], 3),
        (GPU, [], 8),
        (GPU, ["--share-batches", "0"], 0),
        (GPU, ["--share-batches", "2"], 2),
        ({**GPU, "cpu_parts": frozenset({"unet", "text"})}, [], 0),
        ({**GPU, "offload": "parts"}, ["--share-batches", "8"], 0),
        ({**GPU, "offload_sdxl": True}, [], 0),
    ],
)
def test_the_limit(policy: dict[str, Any] | None, flags: list[str], limit: float) -> None:
    decided = None if policy is None else DevicePolicy(**policy)
    models: Any = SimpleNamespace(decided_policy=decided)
    assert share_limit(parse_settings(flags, environment={}), models) == limit
