"""Live previews: the newest prediction as a small picture, by the method that option ``show_progress_type`` names."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from latentd.images.grid import grid_rows, make_grid
from latentd.models.approx_nn import approx_nn_file, linear_picture, load_approx_nn
from latentd.models.taesd import taesd_file
from latentd.models.vae import decode
from latentd.pipeline.passes.latents import TAESD, TAESD_FOLDER, find_file, small_network, taesd_decode
from latentd.pipeline.passes.pixels import to_picture

if TYPE_CHECKING:
    from latentd.models.loaded import LoadedModel
    from latentd.pipeline.generation import RunningGeneration
    from latentd.pipeline.pass_state import PassState

log = logging.getLogger(__name__)

APPROX_FOLDER = "VAE-approx"
MOST_CELLS = 1 << 16
"""Most latent cells of one preview: those of 4 megapixels."""
_FIT_CELLS = 16  # side, in latent cells, of the piece to which the linear map is fitted
_CONTENT = {"Prompt": "last_x0", "Negative prompt": "last_negative", "Combined": "last_combined"}


def show_preview(gen: RunningGeneration, state: PassState) -> None:
    """Decode the newest prediction as the job's preview; does nothing before the first prediction.

    :raises Interrupted: the job must stop, so the preview is not finished.
    """
    latents: Tensor | None = getattr(state, _CONTENT.get(gen.options["live_preview_content"], "last_combined"))
    if latents is None:
        return
    if not gen.options["show_progress_grid"]:
        latents = latents[:1]
    pictures = [preview_picture(gen, x, gen.control.check) for x in _bounded(latents)]
    rows = grid_rows(len(pictures), n_rows=int(gen.options["n_rows"]), batch_size=gen.plan.batch_size)
    gen.control.set_preview(pictures[0] if len(pictures) == 1 else make_grid(pictures, rows))


def _bounded(latents: Tensor) -> Tensor:
    """``latents`` [B,C,h,w], reduced if they have more cells together than :data:`MOST_CELLS`."""
    count, _, height, width = latents.shape
    share = MOST_CELLS / (count * height * width)
    if share >= 1:
        return latents
    size = [max(int(side * share**0.5), 1) for side in (height, width)]
    return F.interpolate(latents, size=size, mode="nearest-exact")


def preview_picture(gen: RunningGeneration, latent: Tensor, check: Callable[[], None]) -> Image.Image:
    """A picture of one latent [4,h,w], by option ``show_progress_type``.

    ``Full`` is the VAE, ``TAESD`` and ``Approx NN`` are small networks, ``Approx cheap`` is AUTOMATIC1111's linear map
    at latent size. If the file of a network is missing, a linear map fitted to the model's own VAE is used, and the log
    says so once. If parts of the model are in main memory, ``Full`` means ``Approx NN`` unless
    ``live_preview_allow_lowvram_full`` is set.

    :param check: called within the decoder; an exception that it raises ends decoding.
    """
    model, method = gen.model, str(gen.options["show_progress_type"])
    if method == "Full" and model.policy.offload != "none" and not gen.options["live_preview_allow_lowvram_full"]:
        method = "Approx NN"
    if method == "Full":
        return to_picture(decode(model, latent[None], check=check)[0])
    if method == "Approx cheap":
        return to_picture(linear_picture(latent, sdxl=model.is_sdxl))
    folder, name = TAESD_FOLDER, taesd_file("decoder", sdxl=model.is_sdxl)
    if method != TAESD:
        folder, name = APPROX_FOLDER, approx_nn_file(sdxl=model.is_sdxl)
    path = find_file(gen, folder, name)
    if path is None:
        _say_missing(method, f"models/{folder}/{name}")
        weights, bias = _linear_map(model, latent)
        rgb = torch.einsum("chw,cr->rhw", latent.float().cpu(), weights) + bias[:, None, None]
        return to_picture(rgb.clamp(0, 1))
    if method == TAESD:
        return to_picture(taesd_decode(gen, latent[None], check=check)[0])
    network = small_network(gen, path, partial(load_approx_nn, path))
    with torch.no_grad():
        rgb = network(latent[None].to(gen.device, gen.dtype))[0].float().cpu()
    return to_picture((rgb * 0.5 + 0.5).clamp(0, 1))


@cache
def _say_missing(method: str, name: str) -> None:
    # "Approx NN" is the default, so a missing file is no reason for a warning.
    level = logging.WARNING if method == TAESD else logging.INFO
    log.log(level, "previews by %r need %s, which is not there; a linear map stands in for it", method, name)


def _linear_map(model: LoadedModel, latent: Tensor) -> tuple[Tensor, Tensor]:
    """(weights [4,3], bias [3]) by least squares from a piece of this latent to the VAE's picture; cached by VAE."""
    found = model.preview_maps.get(model.vae)
    if found is None:
        piece = latent[None, :, :_FIT_CELLS, :_FIT_CELLS]
        target = F.interpolate(decode(model, piece).float().cpu(), size=piece.shape[-2:], mode="area")
        x = piece[0].float().cpu().flatten(1).T
        x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
        ridge = 1e-3 * len(x) * torch.eye(x.shape[1])
        solution = torch.linalg.solve(x.T @ x + ridge, x.T @ target[0].flatten(1).T)
        found = model.preview_maps[model.vae] = (solution[:-1], solution[-1])
    return found
