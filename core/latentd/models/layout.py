"""Memory layout of a module's weights, and the algorithm of its convolutions."""

from __future__ import annotations

import torch
from torch import nn

from latentd.models.devices import DevicePolicy
from latentd.models.modules.winograd import use_winograd
from latentd.models.precision import Part


def lay_out(module: nn.Module, policy: DevicePolicy, part: Part) -> None:
    """Give the weights of ``module`` the layout of ``policy`` for ``part``, and its convolutions their algorithm."""
    if policy.precision_of(part).channels_last:
        module.to(memory_format=torch.channels_last)
    elif policy.device_of(part).type == "cpu" and not policy.direct_convolution:
        use_winograd(module)
