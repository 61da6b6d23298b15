"""One block of a UNet, as hooks see it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from latentd.types import BlockSite


@dataclass(frozen=True, slots=True)
class Block:
    """One LDM block: its site and the diffusers modules that make it up, in order."""

    site: BlockSite
    modules: tuple[nn.Module, ...]
