"""The weight types of network files, one a module, recognised by their weight names in A1111's order; then others.

By hand: peft and LyCORIS read their own names alone, and wrap the model's layers, where these are added to its weights.
"""

from __future__ import annotations

from latentd.networks.modules.base import NetworkModule, Weights
from latentd.networks.modules.full import FullDifference
from latentd.networks.modules.glora import GLora
from latentd.networks.modules.ia3 import IA3
from latentd.networks.modules.loha import LoHa
from latentd.networks.modules.lokr import LoKr
from latentd.networks.modules.lora import Lora
from latentd.networks.modules.norm import NormDifference
from latentd.networks.modules.oft import Oft
from latentd.networks.modules.rotation import InputRotation

TYPES: tuple[type[NetworkModule], ...] = (
    *(Lora, LoHa, IA3, LoKr, FullDifference, NormDifference, GLora, Oft),
    InputRotation,
)


def module_from(weights: Weights) -> NetworkModule | None:
    """The change that ``weights`` (by weight name) describe, or None if they are of no known type."""
    found = next((kind for kind in TYPES if kind.matches(weights)), None)
    return found(weights) if found is not None else None


__all__ = ["TYPES", "NetworkModule", "Weights", "module_from"]
