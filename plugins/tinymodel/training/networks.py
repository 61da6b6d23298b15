"""The networks of the tiny model, as the libraries' own modules in the smallest useful shapes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

SCALE = 0.18215
TEXT_WIDTH = 40  # one head, as loaders reckon a head for every 64 channels
VAE_WIDTH = 96
TEXT_LAYERS = 3
UNET_CHANNELS = (64, 64, 128)
UNET_ATTENTION = (False, False, True)


class Bypass(nn.Module):
    """Returns its input: stands in for a residual block that still adds nothing, at no cost."""

    def forward(self, hidden: Tensor, temb: Tensor | None = None) -> Tensor:
        return hidden


@torch.no_grad()
def _rows(conv: nn.Conv2d, carrier: int, inputs: dict[int, float], kernel: Tensor | None = None) -> None:
    """Makes output `carrier` a filtered sum of the inputs, and the next two outputs the constants 2 and -2."""
    conv.weight[carrier : carrier + 3] = 0
    conv.bias[carrier : carrier + 3] = torch.tensor([0.0, 2.0, -2.0])
    for channel, factor in inputs.items():
        if kernel is None:
            conv.weight[carrier, channel, 1, 1] = factor
        else:
            conv.weight[carrier, channel] = factor * kernel


class PhasedUpsample(nn.Module):
    """The upsampler's work (double by nearest neighbour, then convolve by 3x3) for 4/9 of its arithmetic.

    Each of the four output phases sees only 2x2 distinct inputs, so its kernel is the 3x3 one with taps summed.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, hidden: Tensor, output_size: object = None) -> Tensor:
        """Features of twice the height and width."""
        n, _, h, w = hidden.shape
        kernel, padded = self.conv.weight, F.pad(hidden, (1, 1, 1, 1))
        rows = (
            torch.stack((kernel[:, :, 0], kernel[:, :, 1] + kernel[:, :, 2]), 2),
            torch.stack((kernel[:, :, 0] + kernel[:, :, 1], kernel[:, :, 2]), 2),
        )
        phases = []
        for y in (0, 1):
            for x in (0, 1):
                taps = rows[y]
                taps = (
                    torch.stack((taps[..., 0], taps[..., 1] + taps[..., 2]), 3)
                    if x == 0
                    else torch.stack((taps[..., 0] + taps[..., 1], taps[..., 2]), 3)
                )
                phases.append(F.conv2d(padded[:, :, y : y + h + 1, x : x + w + 1], taps, self.conv.bias))
        out = torch.stack(phases, 2).view(n, -1, 2, 2, h, w)
        return out.permute(0, 1, 4, 2, 5, 3).reshape(n, -1, 2 * h, 2 * w)


class TinyVae(nn.Module):
    """KL-f8 autoencoder of 4 latent channels whose latents are normalised, so that they have unit variance.

    96 channels, since group normalisation in 32 groups loses flat colours with fewer than three channels a group.
    The encoder has no residual blocks outside its middle, the decoder one a level. The decoder's blocks at half and
    at full size are the identity (their second convolution is zero) and cost nothing in training until `unskip`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(VAE_WIDTH,) * 4,
            layers_per_block=0,
            latent_channels=4,
        )
        self.register_buffer("mean", torch.zeros(4, 1, 1))
        self.register_buffer("spread", torch.ones(4, 1, 1))
        self._start_as_resampler()
        ups = self.vae.decoder.up_blocks
        self.fine = nn.ModuleList([ups[2].resnets[0], ups[3].resnets[0]])
        self.skip()
        for block in ups[:3]:
            block.upsamplers[0] = PhasedUpsample(block.upsamplers[0].conv)

    @torch.no_grad()
    def _start_as_resampler(self) -> None:
        """Starts as the plain resampler by eight, from which the rest is learned; the other channels start at random.

        Channels 3g carry red, -red, green, -green, blue, -blue, and beside each stand two constants, 2 and -2, which
        keep the spread of its normalisation group nearly fixed. As silu(x) - silu(-x) = x, all is nearly linear.
        """
        coder = (self.vae.encoder, self.vae.decoder)
        for module in (m for part in coder for m in part.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
                nn.init.zeros_(module.bias)
        for block in (m for part in coder for m in part.modules() if isinstance(m, ResnetBlock2D)):
            nn.init.zeros_(block.conv2.weight)
        for part in coder:
            nn.init.zeros_(part.mid_block.attentions[0].to_out[0].weight)
            for colour in range(3):
                for way, sign in enumerate((1.0, -1.0)):
                    carrier = 3 * (2 * colour + way)
                    _rows(part.conv_in, carrier, {colour: sign})
                    part.conv_out.weight[colour, carrier].zero_()
                    part.conv_out.weight[colour, carrier, 1, 1] = sign * 2.45
            part.conv_out.weight[:3, 18:] *= 0.1
            part.conv_out.weight[:3, 1:18:3] = 0
            part.conv_out.weight[:3, 2:18:3] = 0
            for other in range(3):
                for carrier in range(0, 18, 3):
                    if carrier // 6 != other:
                        part.conv_out.weight[other, carrier] = 0
        for conv, kernel in [
            *(
                (b.upsamplers[0].conv, torch.tensor([1.0, 2.0, 1.0])[:, None] * torch.tensor([1.0, 2.0, 1.0]) / 16)
                for b in self.vae.decoder.up_blocks[:3]
            ),
            *(
                (b.downsamplers[0].conv, F.pad(torch.full((2, 2), 0.25), (0, 1, 0, 1)))
                for b in self.vae.encoder.down_blocks[:3]
            ),
        ]:
            for carrier in range(0, 18, 3):
                _rows(conv, carrier, {carrier: 1.0}, kernel)
        self.vae.quant_conv.weight.copy_(torch.eye(8)[:, :, None, None])
        self.vae.post_quant_conv.weight.copy_(torch.eye(4)[:, :, None, None])
        self.vae.quant_conv.bias.zero_()
        self.vae.post_quant_conv.bias.zero_()

    def skip(self) -> None:
        """Leaves the decoder's residual blocks at half and full size out."""
        for block in self.vae.decoder.up_blocks[2:]:
            block.resnets[0] = Bypass()

    def unskip(self) -> None:
        """Puts these blocks back in their places."""
        for block, fine in zip(self.vae.decoder.up_blocks[2:], self.fine, strict=True):
            block.resnets[0] = fine

    def encode(self, pixels: Tensor) -> Tensor:
        """Latents (n, 4, h/8, w/8) of unit variance from pixels (n, 3, h, w) in -1..1."""
        return (self.vae.quant_conv(self.vae.encoder(pixels))[:, :4] - self.mean) / self.spread

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels in about -1..1 from latents of unit variance."""
        return self.vae.decoder(self.vae.post_quant_conv(latents * self.spread + self.mean))


def make_unet() -> UNet2DConditionModel:
    """The UNet: three levels, one residual block a level, attention at the coarsest."""
    down = tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in UNET_ATTENTION)
    up = tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(UNET_ATTENTION))
    return UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=UNET_CHANNELS,
        down_block_types=down,
        up_block_types=up,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=8,
    )


def make_text_encoder(vocabulary: int = 49408) -> CLIPTextModel:
    """A CLIP text model of width 40; in training its table holds only the rows of the words that captions use."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=1,
            max_position_embeddings=77,
            hidden_act="quick_gelu",
        )
    )


def alphas_bar() -> Tensor:
    """The 1000 cumulative alphas of the SD-1 schedule (betas linear in their square roots)."""
    betas = torch.linspace(0.00085**0.5, 0.0120**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()
