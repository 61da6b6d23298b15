"""What the loop trains: a few parameters that act on a model whose own weights stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, Protocol, TypedDict

from latentd.api import Services, UNetHook

if TYPE_CHECKING:
    from torch import Tensor

    from latentd.api import TrainableModel


@dataclass(frozen=True, slots=True)
class MadeWith:
    """What a file says of its making: steps done, the checkpoint's short hash and name."""

    step: int
    sd_checkpoint: str | None
    sd_checkpoint_name: str | None

    @classmethod
    def of(cls, model: TrainableModel, step: int) -> MadeWith:
        """After ``step`` steps with ``model``."""
        info = model.model.info
        return cls(step, info.hash, info.model_name)


class ParameterGroup(TypedDict):
    """A group of a torch optimiser: parameters, and where they differ their share of the rate and their decay."""

    params: Sequence[Tensor]
    rate_factor: NotRequired[float]
    weight_decay: NotRequired[float]


class Learner(Protocol):
    """One embedding, hypernetwork or LoRA in training."""

    name: str
    path: Path
    step: int
    """Steps done so far, in this run and before."""

    @property
    def trains_text(self) -> bool:
        """Whether texts are encoded with gradients, and differently after each step."""

    def groups(self) -> list[ParameterGroup]:
        """The parameters, float32, in groups for an optimiser."""

    @contextmanager
    def acting(self, model: TrainableModel) -> Iterator[Sequence[UNetHook]]:
        """Within it the parameters act on ``model``; gives the hooks that the UNet's evaluations need for it."""

    def set_training(self, training: bool) -> None:
        """Drop-out on or off."""

    def seed_drop_out(self, seed: int) -> None:
        """Have what is dropped from now on depend on ``seed`` alone."""

    @contextmanager
    def showing(self, services: Services) -> Iterator[Sequence[UNetHook]]:
        """Within :meth:`acting` and this, generations draw with the parameters as they are; gives their hooks."""

    def file(self, made_with: MadeWith, name: str) -> bytes:
        """The bytes of its file, which calls itself ``name``."""

    def checksum(self, data: bytes) -> str:
        """What an optimiser's state says to which file, ``data``, it belongs."""

    def tensors(self) -> Mapping[str, Tensor]:
        """The parameters by name."""
