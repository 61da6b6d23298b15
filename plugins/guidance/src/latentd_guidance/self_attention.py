"""Self-Attention Guidance (Hong et al. 2022, arXiv 2210.00939).

It guides away from the prediction that the negative prompt gives when the places it attends to are blurred. It costs a
further evaluation of the negative prompt at each step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.api import Attend, AttentionHandler, AttentionSite, Generation, GuidedStep, UNetCall, UNetHook
from latentd_guidance.technique import Arguments, Technique, slider

if TYPE_CHECKING:
    from torch import Tensor

_PASS = "self attention"
KERNEL = 9
"""Side of the blur's window, in latent cells."""


class SelfAttentionArgs(Arguments):
    """``blur_sigma`` in latent cells; places whose summed attention is above ``threshold`` are blurred."""

    scale: float = slider(0.5, "Scale", -2, 5, 0.01)
    blur_sigma: float = slider(2.0, "Blur Sigma", 0, 10, 0.01, ge=0)
    threshold: float = slider(1.0, "Blur mask threshold", 0, 4, 0.01)


class SelfAttention(Technique[SelfAttentionArgs]):
    """More detail where the model attends to. Like Forge's, it does not act in the second pass of hires fix."""

    title = "SelfAttentionGuidance Integrated (SD 1.x, SD 2.x, SDXL)"
    aliases = ("SelfAttentionGuidance Integrated",)
    prefix = "sag_"
    Args = SelfAttentionArgs

    def hook(self, generation: Generation, args: SelfAttentionArgs) -> UNetHook:
        """The hook that acts in each evaluation of the UNet in this job."""
        return SelfAttentionHook(args, generation)


class SelfAttentionHook(UNetHook):
    """``x0 + scale * (blurred - prediction from it)``.

    The attention map is the first of the middle block, of the negative prompt's rows, averaged over the heads and
    summed over the queries.
    """

    def __init__(self, args: SelfAttentionArgs, generation: Generation) -> None:
        self.args = args
        self._generation = generation
        self.seen: Tensor | None = None
        self._site: str | None = None

    def attention(self, site: AttentionSite) -> AttentionHandler | None:
        """A handler for the first self-attention of the middle block."""
        if (site.block, site.kind) != ("middle_block", "self") or self._site not in (None, site.name):
            return None
        self._site = site.name
        return self._attend

    def _attend(self, call: UNetCall, hidden: Tensor, context: Tensor | None, attend: Attend) -> Tensor:
        negative = ~call.is_cond
        if "pass" not in call.tags and call.pass_name == "base" and bool(negative.any()):
            self.seen = attention_received(attend, hidden[negative])
        return attend(hidden, context)

    def guide(self, step: GuidedStep, x0: Tensor) -> Tensor:
        """Equation 10 of the paper, on predictions of the clean latent."""
        seen, self.seen = self.seen, None
        if seen is None or step.uncond is None or self.args.blur_sigma == 0 or min(x0.shape[-2:]) <= KERNEL // 2:
            return x0
        if not fits(seen, step.uncond):
            self._generation.warn("SelfAttentionGuidance does not act where the UNet sees the picture in tiles")
            return x0
        blurred = blur_where_seen(step.uncond, seen, self.args.blur_sigma, self.args.threshold)
        again = step.predict(blurred + step.latent - step.uncond, positive=False, tag=_PASS)
        return x0 + (blurred - again) * self.args.scale


def attention_received(attend: Attend, hidden: Tensor) -> Tensor:
    """The attention that each place receives [B,n]: the mean over the heads of the sums over all queries."""
    module = attend.module
    heads = module.heads
    query, key = (
        t.reshape(*t.shape[:-1], heads, -1).transpose(1, 2).float() for t in (module.to_q(hidden), module.to_k(hidden))
    )
    scores: Tensor = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    return scores.softmax(dim=-1).sum(dim=2).mean(dim=1)


def blur_where_seen(latent: Tensor, seen: Tensor, sigma: float, threshold: float) -> Tensor:
    """``latent`` [B,C,h,w], blurred where ``seen`` [B,n] is above ``threshold``; ``n`` cells lie in rows as ``h:w``."""
    import torch.nn.functional as F

    height, width = latent.shape[-2:]
    grid = seen.reshape(seen.shape[0], 1, *grid_of(seen.shape[1], height, width))
    mask = F.interpolate((grid > threshold).to(latent.dtype), size=(height, width))
    return blur(latent, sigma) * mask + latent * (1 - mask)


def fits(seen: Tensor, latent: Tensor) -> bool:
    """Whether ``seen`` [B,n] is a map of ``latent`` [B,C,h,w], with a row for each picture, on its halved grid."""
    rows, columns = grid_of(seen.shape[1], *latent.shape[-2:])
    return seen.shape[0] == latent.shape[0] and rows * columns == seen.shape[1]


def grid_of(cells: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a grid of ``cells`` that repeated halving of a latent of ``height`` x ``width`` gives."""
    while height * width > cells:
        height, width = -(-height // 2), -(-width // 2)
    return height, width


def blur(latent: Tensor, sigma: float) -> Tensor:
    """``latent`` [B,C,h,w] under a Gaussian of ``sigma`` cells in a window of :data:`KERNEL`, edges mirrored."""
    import torch
    import torch.nn.functional as F

    offsets = torch.arange(KERNEL, device=latent.device) - KERNEL // 2
    line = torch.exp(-0.5 * (offsets / sigma) ** 2)
    line = (line / line.sum()).to(latent.dtype)
    channels = latent.shape[1]
    kernel = (line[:, None] * line[None]).expand(channels, 1, KERNEL, KERNEL)
    edge = KERNEL // 2
    return F.conv2d(F.pad(latent, (edge, edge, edge, edge), mode="reflect"), kernel, groups=channels)
