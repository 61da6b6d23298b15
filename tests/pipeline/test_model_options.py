"""Options of models and networks act on real generations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pipeline.conftest import Draw

from latentd.server.services import AppServices
from latentd.types import Result


def far(one: Result, other: Result) -> int:
    a, b = (np.asarray(r.images[0].image, dtype=int) for r in (one, other))
    return int(np.abs(a - b).max())


def text(result: Result) -> str:
    return str(result.images[0].infotext)


def test_fp8_storage(draw: Draw) -> None:
    whole, small = draw(), draw({"fp8_storage": "Enable"})
    assert far(whole, small) > 0
    assert "FP8 weight: Enable, Cache FP16 weight for LoRA: False" in text(small)
    only_xl = draw({"fp8_storage": "Enable for SDXL"})
    assert "FP8 weight" not in text(only_xl)
    assert far(whole, only_xl) == 0


def test_cache_fp16_weight(draw: Draw) -> None:
    prompt = "a circle <lora:tinylora1:1>"
    small = draw({"fp8_storage": "Enable"}, prompt=prompt)
    kept = draw({"fp8_storage": "Enable", "cache_fp16_weight": True}, prompt=prompt)
    assert far(small, kept) > 0
    assert "Cache FP16 weight for LoRA: True" in text(kept)
    assert "Cache FP16 weight" not in text(draw({"cache_fp16_weight": True}))
