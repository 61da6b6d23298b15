"""Live previews: the newest prediction as a small picture, by the method that option ``show_progress_type`` names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from latentd.images.grid import grid_rows, make_grid
from latentd.models.vae import decode
from latentd.pipeline.pixels import to_picture

if TYPE_CHECKING:
    from latentd.pipeline.denoiser import PassState
    from latentd.pipeline.generation import RunningGeneration

_FIT_CELLS = 16  # latent cells a side from which the linear map is fitted
_CONTENT = {"Prompt": "last_x0", "Negative prompt": "last_negative", "Combined": "last_combined"}


def show_preview(gen: RunningGeneration, state: PassState) -> None:
    """Decode the newest prediction and hand it to the job; nothing before the first prediction."""
    latents: Tensor | None = getattr(state, _CONTENT.get(gen.options["live_preview_content"], "last_combined"))
    if latents is None:
        return
    if not gen.options["show_progress_grid"]:
        latents = latents[:1]
    pictures = [preview_picture(gen.model, x, str(gen.options["show_progress_type"])) for x in latents]
    rows = grid_rows(len(pictures), n_rows=int(gen.options["n_rows"]), batch_size=gen.plan.batch_size)
    gen.control.set_preview(pictures[0] if len(pictures) == 1 else make_grid(pictures, rows))


def preview_picture(model: Any, latent: Tensor, method: str) -> Image.Image:
    """A picture of one latent [4,h,w].

    ``Full`` is the VAE. ``Approx cheap`` is a linear map at latent size. ``Approx NN`` and ``TAESD`` need weights that
    latentd does not carry; the linear map, fitted to the model's own VAE, stands in for them.
    """
    if method == "Full":
        return to_picture(decode(model, latent[None])[0])
    weights, bias = _linear_map(model, latent)
    rgb = torch.einsum("chw,cr->rhw", latent.float().cpu(), weights) + bias[:, None, None]
    return to_picture(rgb.clamp(0, 1))


def _linear_map(model: Any, latent: Tensor) -> tuple[Tensor, Tensor]:
    """(weights [4,3], bias [3]): least squares from a piece of this latent to the VAE's picture; kept per VAE."""
    key = f"preview-map-{id(model.vae)}"
    if key not in model.extras:
        piece = latent[None, :, :_FIT_CELLS, :_FIT_CELLS]
        target = F.interpolate(decode(model, piece).float().cpu(), size=piece.shape[-2:], mode="area")
        x = piece[0].float().cpu().flatten(1).T
        x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
        ridge = 1e-3 * len(x) * torch.eye(x.shape[1])
        solution = torch.linalg.solve(x.T @ x + ridge, x.T @ target[0].flatten(1).T)
        model.extras[key] = (solution[:-1], solution[-1])
    found: tuple[Tensor, Tensor] = model.extras[key]
    return found
