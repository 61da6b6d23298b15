"""Changes that some modules make to the UNet's output or input, beside their model's residuals.

Tile colour fix, the unmasked part under inpaint_only, and the extra channels of inpainting checkpoints (rules:
a1111-controlnet-kinds).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from latentd.api import Generation, Model, UNetCall
from latentd_controlnet.kinds.hook import UnitHook
from latentd_controlnet.kinds.latents import blur_latent, encode_hint
from latentd_controlnet.prepared import PreparedUnit

SHARPNESS_SCALE = 0.01
INPAINT_EXTRA = 5


def fixes_of(prepared: PreparedUnit, generation: Generation) -> list[UnitHook]:
    """The hooks of a unit besides its model's."""
    found: list[UnitHook] = []
    if prepared.is_inpaint and generation.model.unet_in_channels == 4 + INPAINT_EXTRA:
        found.append(InpaintChannels(prepared))
    if "colorfix" in prepared.module.name:
        found.append(ColourFix(prepared))
    if prepared.module.name.startswith("inpaint_only"):
        found.append(KeepUnmasked(prepared))
    return found


class _LatentHook(UnitHook):
    """Keeps the control map's latent for each pass, and converts the UNet's outputs to clean latents and back."""

    def __init__(self, prepared: PreparedUnit) -> None:
        super().__init__(prepared)
        self._model: Model | None = None
        self._latents: dict[str, Tensor] = {}

    def open(self, generation: Generation) -> None:
        self._model = generation.model

    @property
    def model(self) -> Model:
        """The loaded checkpoint, between ``open`` and ``close``."""
        assert self._model is not None
        return self._model

    def latent(self, call: UNetCall) -> Tensor:
        if call.pass_name not in self._latents:
            self._latents[call.pass_name] = encode_hint(self.model, self.hint(call)).float()
        return self._latents[call.pass_name]

    def alpha(self, call: UNetCall) -> Tensor:
        """ᾱ at the evaluation's timestep [B,1,1,1]."""
        alphas: Tensor = self.model.alphas_cumprod().to(call.sample.device)
        return alphas[call.timestep.float().round().long()][:, None, None, None]

    def to_clean(self, call: UNetCall, out: Tensor) -> Tensor:
        alpha = self.alpha(call)
        if self.model.prediction_type == "v":
            return alpha.sqrt() * call.sample - (1 - alpha).sqrt() * out
        return (call.sample - (1 - alpha).sqrt() * out) / alpha.sqrt()

    def from_clean(self, call: UNetCall, clean: Tensor) -> Tensor:
        alpha = self.alpha(call)
        if self.model.prediction_type == "v":
            return (alpha.sqrt() * call.sample - clean) / (1 - alpha).sqrt()
        return (call.sample - alpha.sqrt() * clean) / (1 - alpha).sqrt()

    def blended(self, call: UNetCall, out: Tensor, clean: Tensor) -> Tensor:
        """A mixture, by the unit's weight, of ``out`` and the output for which ``clean`` is the clean latent."""
        share = min(max(self.weight, 0.0), 1.0)
        return self.from_clean(call, clean) * share + out * (1 - share)

    def close(self) -> None:
        super().close()
        self._latents, self._model = {}, None


class ColourFix(_LatentHook):
    """Replaces the large-scale colours of the clean latent by those of the map."""

    def after(self, call: UNetCall, out: Tensor) -> Tensor:
        """The UNet's output for a clean latent with the map's large-scale colours."""
        values = self.prepared.parameters
        doubled = call.pass_name == "hires" and self.prepared.unit.hires != "Low res only"
        radius = int(values.threshold_a) * (2 if doubled else 1)
        clean = self.to_clean(call, out)
        clean = clean - blur_latent(clean, radius) + blur_latent(self.latent(call), radius)
        if self.prepared.module.name.endswith("+sharp"):
            share = values.threshold_b * SHARPNESS_SCALE
            softer = share * blur_latent(clean, radius) + (1 - share) * clean
            rows = call.is_cond[:, None, None, None].to(clean)
            clean = rows * clean + (1 - rows) * softer
        return self.blended(call, out, clean)


class KeepUnmasked(_LatentHook):
    """Keeps the original outside the mask at every step."""

    def after(self, call: UNetCall, out: Tensor) -> Tensor:
        """The UNet's output for a clean latent that is the original's outside the mask."""
        hint = self.hint(call)
        if hint.shape[1] != 4:
            return out
        mask = F.max_pool2d(hint[:, 3:], (10, 10), stride=(8, 8), padding=1)
        clean = self.to_clean(call, out)
        return self.blended(call, out, clean * mask + self.latent(call) * (1 - mask))


class InpaintChannels(_LatentHook):
    """Replaces an inpainting checkpoint's mask and picture by those of the unit."""

    def before(self, call: UNetCall) -> None:
        """Replace the mask and the masked picture among the UNet's input channels."""
        if call.concat is None or call.concat.shape[1] != INPAINT_EXTRA:
            return
        hint = self.hint(call)
        if call.pass_name not in self._latents:
            mask = (hint[:, 3:] > 0.5).to(hint)
            masked = encode_hint(self.model, hint, mask=mask)
            self._latents[call.pass_name] = torch.cat([F.max_pool2d(mask, (8, 8)).to(masked), masked], dim=1)
        call.concat = self._latents[call.pass_name].to(call.concat).expand(len(call.sample), -1, -1, -1)
