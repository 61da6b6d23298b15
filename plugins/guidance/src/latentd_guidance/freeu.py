"""FreeU (Si et al. 2023, arXiv 2309.11497), in its second version.

It amplifies the decoder's own features where they are strong, and scales the low frequencies of the skip connections.
It costs two Fourier transforms for each block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.api import BlockSite, EntryHandler, Generation, UNetCall, UNetHook
from latentd_guidance.technique import Arguments, Technique, share_of_steps, slider

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class FreeUArgs(Arguments):
    """Factors of the backbone (``b``) and of the skip connections (``s``), on the decoder's two widest stages."""

    b1: float = slider(1.01, "B1", 0, 2, 0.01)
    b2: float = slider(1.02, "B2", 0, 2, 0.01)
    s1: float = slider(0.99, "S1", 0, 4, 0.01)
    s2: float = slider(0.95, "S2", 0, 4, 0.01)
    start: float = slider(0.0, "Start step", 0, 1, 0.01)
    end: float = slider(1.0, "End step", 0, 1, 0.01)


class FreeU(Technique[FreeUArgs]):
    """Sharper structure from the same model, by weighing the decoder against its skip connections."""

    title = "FreeU Integrated (SD 1.x, SD 2.x, SDXL)"
    aliases = ("FreeU Integrated", "FreeU")
    prefix = "freeu_"
    unwritten = frozenset({"start", "end"})
    Args = FreeUArgs

    def hook(self, generation: Generation, args: FreeUArgs) -> UNetHook:
        """The hook that acts in each evaluation of the UNet in this job."""
        return FreeUHook(args)


class FreeUHook(UNetHook):
    """Acts where the decoder joins a skip connection, on stages of four and of two times the UNet's base width."""

    def __init__(self, args: FreeUArgs) -> None:
        self.args = args
        self.base_width: int | None = None

    def entry(self, site: BlockSite) -> EntryHandler | None:
        """A handler for each output block; it acts or not by the width of its input."""
        if site.kind == "input" and site.index == 0:
            self.base_width = site.channels
        return self._enter if site.kind == "output" else None

    def _enter(self, call: UNetCall, hidden: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor | None]:
        args = self.args
        if skip is None or not args.start <= share_of_steps(call) <= args.end:
            return hidden, skip
        factors = {4: (args.b1, args.s1), 2: (args.b2, args.s2)}
        if self.base_width is None or (found := factors.get(hidden.shape[1] // self.base_width)) is None:
            return hidden, skip
        backbone, low = found
        return amplify_strong(hidden, backbone), scale_low_frequencies(skip, low)


def amplify_strong(hidden: Tensor, factor: float) -> Tensor:
    """The first half of the channels of ``hidden`` [B,C,h,w], times ``1 + (factor - 1) * m``.

    ``m`` is the mean over the channels, stretched to [0,1] for each picture (equation 4 of the paper, with its
    structure-related factor map).
    """
    import torch

    if factor == 1:
        return hidden
    mean = hidden.float().mean(dim=1, keepdim=True)
    low, high = mean.amin(dim=(2, 3), keepdim=True), mean.amax(dim=(2, 3), keepdim=True)
    weight = (mean - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)
    half = hidden.shape[1] // 2
    strong = hidden[:, :half] * (1 + (factor - 1) * weight).to(hidden.dtype)
    return torch.cat([strong, hidden[:, half:]], dim=1)


def scale_low_frequencies(skip: Tensor, factor: float, reach: int = 1) -> Tensor:
    """``skip`` [B,C,h,w] with the frequencies below ``reach`` in both directions multiplied by ``factor``.

    Those are the constant and, of each pair of opposite frequencies ``±reach``, the negative one, as the paper's code
    cuts its square out of the shifted spectrum; the real part is kept.
    """
    import torch

    if factor == 1:
        return skip
    spectrum = torch.fft.fft2(skip.float())
    rows, columns = (_low(size, reach, skip.device) for size in skip.shape[-2:])
    spectrum = torch.where(rows[:, None] & columns[None], spectrum * factor, spectrum)
    filtered: Tensor = torch.fft.ifft2(spectrum).real.to(skip.dtype)
    return filtered


def _low(size: int, reach: int, device: torch.device) -> Tensor:
    import torch

    frequencies: Tensor = torch.fft.fftfreq(size, 1 / size, device=device).round()
    return (frequencies >= -reach) & (frequencies < reach)
