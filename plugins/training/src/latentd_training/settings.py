"""How a training runs, and where one stands. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from latentd_training.learning_rate import Schedule

ClipMode = Literal["disabled", "value", "norm"]
#: Optimisers by the names that hypernetworks' states bear; the others of torch need closures or sparse gradients.
OPTIMIZERS = (*("AdamW", "Adam", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop", "Rprop", "SGD", "ASGD"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopOptions:
    """How long and how fast. ``steps`` are those of the optimiser, in all runs together.

    Each step takes ``gradient_step`` batches of ``batch_size``. ``validate_every`` steps the loss on held-out noise is
    measured, and at the beginning and the end; 0 for never. ``seed`` makes a run repeatable, broken off and gone on
    with or not.
    """

    steps: int
    rate: Schedule
    batch_size: int = 1
    gradient_step: int = 1
    repeats: int = 1
    clip_mode: ClipMode = "disabled"
    clip: Schedule | None = None
    seed: int = 0
    validate_every: int = 0
    validation_size: int = 32


@dataclass(slots=True)
class Progress:
    """Where a training stands: shown, logged and answered."""

    step: int
    loss: float = math.nan
    rate: float = math.nan
    prompt: str = ""
    epoch_length: int = 1
    held_out: dict[int, float] = field(default_factory=dict)
    interrupted: bool = False
