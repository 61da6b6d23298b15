"""LaMa fills what a mask leaves out before inpainting; its network is in no package that could be depended on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from latentd.api import NotConfigured


def fill(image: Any, params: Mapping[str, Any], context: Any) -> NoReturn:
    """:raises NotConfigured: always."""
    raise NotConfigured(
        "Preprocessor inpaint_only+lama needs LaMa, which latentd-controlnet does not have",
        hint="inpaint_only works without it",
    )
