"""A small RRDB network for scale 4, under ESRGAN's old key names, which upscaler loaders know."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROWTH = 32


class _Dense(nn.Module):
    """Five convolutions, each of which sees all before it; a fifth of the last is added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for i in range(1, 6):
            conv = nn.Conv2d(width + (i - 1) * GROWTH, GROWTH if i < 5 else width, 3, padding=1)
            setattr(self, f"conv{i}", nn.Sequential(conv))

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        held = [x]
        for i in range(1, 5):
            held.append(F.leaky_relu(getattr(self, f"conv{i}")(torch.cat(held, 1)), 0.2))
        return x + 0.2 * self.conv5(torch.cat(held, 1))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.RDB1, self.RDB2, self.RDB3 = _Dense(width), _Dense(width), _Dense(width)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        return x + 0.2 * self.RDB3(self.RDB2(self.RDB1(x)))


class _Trunk(nn.Module):
    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.sub = nn.Sequential(*(_Block(width) for _ in range(blocks)), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """The trunk's answer added to its input."""
        return x + self.sub(x)


class TinyRrdb(nn.Module):
    """RGB (n, 3, h, w) in 0..1 to (n, 3, 4h, 4w); starts as a smooth enlargement, from which it learns to sharpen."""

    def __init__(self, width: int = 32, blocks: int = 1) -> None:
        super().__init__()
        conv = [nn.Conv2d(3, width, 3, padding=1)]
        conv += [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
        conv += [nn.Conv2d(width, 3, 3, padding=1)]
        layers = {"0": conv[0], "1": _Trunk(width, blocks), "3": conv[1], "6": conv[2], "8": conv[3], "10": conv[4]}
        self.model = nn.ModuleDict(layers)
        self._start_smooth()

    @torch.no_grad()
    def _start_smooth(self) -> None:
        """Channels 2c and 2c+1 carry a colour and its negative: their leaky rectifications differ by 1.2 times it."""
        smooth = torch.tensor([1.0, 2.0, 1.0])
        kernel = smooth[:, None] * smooth / 16
        for layer in self.model["1"].sub[-1:]:
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
        for colour in range(3):
            for way, sign in enumerate((1.0, -1.0)):
                channel = 2 * colour + way
                for name in ("0", "3", "6", "8"):
                    self.model[name].weight[channel] = 0
                    self.model[name].bias[channel] = 0
                self.model["0"].weight[channel, colour, 1, 1] = sign
                for name in ("3", "6"):
                    for source, part in ((2 * colour, sign), (2 * colour + 1, -sign)):
                        scale = 0.5 if name == "3" else 1 / 1.2
                        self.model[name].weight[channel, source] = part * scale * kernel
                for source, part in ((2 * colour, sign), (2 * colour + 1, -sign)):
                    self.model["8"].weight[channel, source, 1, 1] = part * 1 / 1.2
        last = self.model["10"]
        last.weight *= 0.05
        nn.init.zeros_(last.bias)
        last.weight[:, :6] = 0
        for colour in range(3):
            last.weight[colour, 2 * colour, 1, 1] = 1 / 1.2
            last.weight[colour, 2 * colour + 1, 1, 1] = -1 / 1.2

    def forward(self, x: Tensor) -> Tensor:
        """The enlarged picture."""
        x = self.model["1"](self.model["0"](x))
        for name in ("3", "6"):
            x = F.leaky_relu(self.model[name](F.interpolate(x, scale_factor=2.0)), 0.2)
        return self.model["10"](F.leaky_relu(self.model["8"](x), 0.2))
