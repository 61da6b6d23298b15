"""On which of the server's devices the calling thread works. Each device has a thread of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentd.models.devices import DevicePolicy

_thread = threading.local()


def work_on(device: str) -> None:
    """Say that this thread works on ``device`` (``cuda:1``) from now on."""
    _thread.device = device


def this_device() -> str | None:
    """The device of this thread; None for a thread that has none, and where the server has only one."""
    found: str | None = getattr(_thread, "device", None)
    return found


def compute_on(policy: DevicePolicy) -> None:
    """Make a CUDA device the one that torch uses on this thread where none is named."""
    if policy.device.startswith("cuda"):
        import torch

        torch.cuda.set_device(policy.device)


def probe(policy: DevicePolicy) -> None:
    """Compute a sum on the device.

    :raises RuntimeError: the device, or this process's hold on it, is lost.
    """
    import torch

    torch.ones(2, device=policy.device).sum().item()
