"""One block of a UNet as hooks know it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from latentd.types import BlockSite


@dataclass(frozen=True, slots=True)
class Block:
    """One LDM block: its site, and its modules in diffusers, in order."""

    site: BlockSite
    modules: tuple[nn.Module, ...]
