"""Limits are applied where requests are planned, past which no caller gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.pipeline.conftest import BASE
from tests.stages.conftest import run

from latentd.errors import InvalidRequest, TooLarge
from latentd.generations import Plan
from latentd.server.services import AppServices
from latentd.types import GenerationRequest


@pytest.mark.parametrize("fields", [{"steps": 0}, {"cfg_scale": 1e9}, {"sampler_name": "x" * 5000}], ids=str)
def test_a_request_out_of_all_proportion_is_planned_for_nobody(
    services: AppServices, plan: Callable[..., Plan], fields: dict[str, Any]
) -> None:
    """Told by the request alone, before any name in it is looked up."""
    (name,) = fields
    with pytest.raises(InvalidRequest, match=name):
        plan(**fields)
    with pytest.raises(InvalidRequest, match=name):
        run(services.generate(GenerationRequest(**{**BASE, **fields})))


def test_what_only_the_plan_tells_is_limited_too(services: AppServices) -> None:
    """The number of pictures is that of the prompts where these are a list."""
    count = services.settings.max_images + 1
    with pytest.raises(TooLarge, match=f"{count} images are over the limit"):
        run(
            services.generate(GenerationRequest(**{**BASE, "prompt": ("a",) * count, "negative_prompt": ("",) * count}))
        )
