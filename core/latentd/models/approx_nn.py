"""Quick pictures of latents for previews: A1111's small network, and its linear map.

Source: the layout of ``models/VAE-approx/model.pt`` of AUTOMATIC1111 (eight convolutions, ``conv1`` to ``conv8``).
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentd.errors import ModelLoadError
from latentd.models.files.state_dict import open_state_dict
from latentd.models.loading.build import assemble

_CHANNELS = (4, 8, 16, 32, 64, 32, 16, 8, 3)
_KERNELS = (7, 5, 3, 3, 3, 3, 3, 3)
_SLOPE = 0.1

#: Red, green and blue of each latent channel, in -1 to 1 (discuss.huggingface.co/t/23204; SDXL's as in A1111 1.8).
LINEAR_SD = ((0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473))
LINEAR_SDXL = (
    (0.3448, 0.4168, 0.4395),
    (-0.1953, -0.0290, 0.0250),
    (0.1074, 0.0886, -0.0163),
    (-0.3730, -0.2499, -0.2088),
)


class ApproxNN(nn.Module):
    """Eight convolutions on the latent at twice its size; the border that they remove is added before them as zeros."""

    def __init__(self) -> None:
        super().__init__()
        for number, kernel in enumerate(_KERNELS, start=1):
            self.add_module(f"conv{number}", nn.Conv2d(_CHANNELS[number - 1], _CHANNELS[number], kernel))

    def forward(self, latents: Tensor) -> Tensor:
        """Pictures [B,3,2h,2w], about -1 to 1, for ``latents`` [B,4,h,w]."""
        border = sum(kernel // 2 for kernel in _KERNELS)
        x = F.pad(F.interpolate(latents, scale_factor=2), (border,) * 4)
        for convolution in self.children():
            x = F.leaky_relu(convolution(x), _SLOPE)
        return x


def load_approx_nn(path: Path, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The network of ``path``, in eval mode.

    :raises ModelLoadError: the file is damaged or holds another network.
    """
    weights = open_state_dict(path)
    try:
        return assemble(ApproxNN, weights, device, dtype)
    except ModelLoadError as error:
        raise ModelLoadError(f"{path.name} is no network for previews", hint=error.detail) from error


def approx_nn_file(*, sdxl: bool) -> str:
    """The file name that A1111 gives the weights."""
    return "vaeapprox-sdxl.pt" if sdxl else "model.pt"


def linear_picture(latent: Tensor, *, sdxl: bool) -> Tensor:
    """A picture [3,h,w] in 0 to 1 of one latent [4,h,w], by the linear map of AUTOMATIC1111's ``Approx cheap``."""
    weights = torch.tensor(LINEAR_SDXL if sdxl else LINEAR_SD)
    rgb = torch.einsum("chw,cr->rhw", latent.float().cpu(), weights)
    return (rgb * 0.5 + 0.5).clamp(0, 1)
