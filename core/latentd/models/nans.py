"""Errors for pictures of nothing but NaN, which name the part of the model (AUTOMATIC1111's NansException)."""

from __future__ import annotations

from torch import Tensor, nn

from latentd.errors import LatentdError
from latentd.models.loaded import LoadedModel

_HINT = "half precision may not be enough for this checkpoint; try --no-half or --no-half-vae"


class NansError(LatentdError):
    """A part of the model returned nothing but NaN for a picture; ``--disable-nan-check`` ignores that."""

    def __init__(self, where: str, hint: str | None = None) -> None:
        super().__init__(f"A tensor with all NaNs was produced in {where}.", hint=hint or _HINT)


def is_nan(batch: Tensor) -> bool:
    """Whether at least one row of ``batch`` [B,...] is nothing but NaN."""
    return bool(batch.isnan().flatten(1).all(dim=1).any())


def nan_weights(model: LoadedModel) -> str | None:
    """A sentence that names the part of ``model`` whose weights are NaN, and its file; None if none are."""
    parts: dict[str, nn.Module | None] = {"UNet": model.unet, "VAE": model.vae}
    parts |= {f"text encoder {number}": encoder for number, encoder in enumerate(model.text_encoders, 1)}
    for name, module in parts.items():
        count = sum(bool(p.isnan().any()) for p in module.parameters() if p.is_floating_point()) if module else 0
        if count:
            file = model.vae_info.name if name == "VAE" and model.vae_info else model.info.name
            return f"{count} weights of the {name} in {file} are NaN: the file is damaged, or its merge went wrong"
    return None
