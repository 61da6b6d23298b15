"""Two processes of one thread each, since threads that wait for each other at every operation stall on a busy machine.

Under `torchrun --nproc-per-node 2` each process works on its own batches and gradients are averaged; alone, nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn


def join() -> int:
    """This process's rank, after joining the group when torchrun started it."""
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
        torch.set_num_threads(1)
        return dist.get_rank()
    return 0


def agree(value: float) -> float:
    """Rank 0's value, on every rank."""
    if not dist.is_initialized():
        return value
    box = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(box, 0)
    return box.item()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces every gradient by its mean over the processes."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
