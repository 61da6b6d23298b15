"""Objects of diffusers, whose classes take their layers from a configuration: checkers know nothing of them."""

from __future__ import annotations

from typing import Any, TypeAlias

DiffusersUNet: TypeAlias = Any
"""A ``diffusers.UNet2DConditionModel``, with its blocks and their layers."""
DiffusersVae: TypeAlias = Any
"""A ``diffusers.AutoencoderKL``."""
DiffusersAttention: TypeAlias = Any
"""A ``diffusers`` ``Attention``: ``to_q``, ``to_k``, ``to_v``, ``to_out``, ``heads``."""
ModelConfig: TypeAlias = dict[str, Any]
"""Arguments of a ``diffusers`` class, each of a type of its own."""
