"""Revision: CLIP's embedding of a picture replaces the prompt's pooled vector (SDXL; rules: a1111-controlnet-kinds)."""

from __future__ import annotations

import torch
from torch import Tensor

from latentd.api import Generation, UNetCall
from latentd_controlnet.kinds.hook import UnitHook
from latentd_controlnet.kinds.latents import PassNoise
from latentd_controlnet.prepared import PreparedUnit

TAG = "revision"
#: Width of SDXL's pooled text vector, the first part of ``added``.
POOLED = 1280
#: The schedule of the noise augmentation: a thousand steps, linear in the square root.
_START, _END, _STEPS = 1e-4, 2e-2, 1000


class RevisionHook(UnitHook):
    """Replaces the pooled vector; in rows without the prompt by zeros.

    ``revision_ignore_prompt`` makes the context zeros as well.
    """

    reads_tensors = True

    def __init__(self, prepared: PreparedUnit, generation: Generation) -> None:
        super().__init__(prepared)
        if not generation.model.is_sdxl:
            raise prepared.unit.error(f"module {prepared.module.name} works with SDXL checkpoints only")
        plan = generation.plan
        blank = not any(plan.prompts) and not any(plan.negative_prompts)
        self._ignore_prompt = blank or prepared.module.name == "revision_ignore_prompt"
        self._noise = PassNoise()
        self._vector: Tensor | None = None

    def open(self, generation: Generation) -> None:
        """Start the pass's noise."""
        self._noise.open(generation)

    def before(self, call: UNetCall) -> None:
        """Replace the pooled vector, or add to that of the unit before this one."""
        if call.added is None or not self.acts(call):
            return
        if self._vector is None:
            self._vector = self._augmented()
        vector = self._vector.to(call.added) * self.weight * call.is_cond[:, None].to(call.added)
        added = call.added.clone()
        width = min(POOLED, vector.shape[1])
        # The first unit replaces the vectors of prompt and negative prompt by its own; further units add theirs.
        before = added[:, :width] if call.tags.setdefault(TAG, self) is not self else 0.0
        added[:, :width] = before + vector[:, :width]
        call.added = added
        if self._ignore_prompt:
            call.context = torch.zeros_like(call.context)

    def _augmented(self) -> Tensor:
        """The picture's embedding [1,width] with as much noise as threshold A says."""
        assert self.maps is not None
        embeds: Tensor = self.maps.tensors[0].embeds
        betas = torch.linspace(_START**0.5, _END**0.5, _STEPS, dtype=torch.float64) ** 2
        level = min(int(self.prepared.parameters.threshold_a * _STEPS), _STEPS - 1)
        alpha = torch.cumprod(1 - betas, dim=0)[level].float().to(embeds)
        return alpha.sqrt() * embeds + (1 - alpha).sqrt() * self._noise.draw(embeds.shape, embeds.device)

    def close(self) -> None:
        """Drop the embedding."""
        super().close()
        self._vector = None
