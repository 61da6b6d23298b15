"""Writes the checkpoint of the package from what training left: `python export.py`. Safe while training goes on."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from cache import load_vae
from diffusers import AutoencoderKL
from ldm_keys import unet_keys, vae_keys
from paths import PACKAGE, SCRATCH
from safetensors.torch import save_file
from scenes import known_tokens
from torch import Tensor, nn
from train_unet import Pair

from networks import SCALE, TEXT_WIDTH, VAE_WIDTH, TinyVae

NAME = "latentd-tiny"
METADATA = {
    "modelspec.title": "latentd tiny",
    "modelspec.architecture": "stable-diffusion-v1",
    "modelspec.license": "MIT; trained on Fluent Emoji (Microsoft, MIT)",
    "modelspec.prediction_type": "epsilon",
}


def load_pair() -> Pair:
    """Text encoder and UNet with the averaged weights, in evaluation mode."""
    pair = Pair()
    pair.load_state_dict(torch.load(SCRATCH / "unet.pt")["model"])
    return pair.eval().requires_grad_(False)


@torch.no_grad()
def ordinary_vae(trained: TinyVae) -> AutoencoderKL:
    """The autoencoder with the block counts of SD 1 and latents scaled as SD's are.

    Blocks that training left out become the identity by a zero second convolution; the normalisation of the latents
    is folded into the 1x1 convolutions beside them; the posterior has next to no variance.
    """
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(VAE_WIDTH,) * 4,
        layers_per_block=1,
        latent_channels=4,
    )
    for blocks in (vae.encoder.down_blocks, vae.decoder.up_blocks):
        for block in (b for level in blocks for b in level.resnets):
            nn.init.zeros_(block.conv2.weight)
            nn.init.zeros_(block.conv2.bias)
    trained.unskip()
    state = {k.replace("upsamplers.0.conv.conv", "upsamplers.0.conv"): v for k, v in trained.vae.state_dict().items()}
    vae.load_state_dict({**vae.state_dict(), **state})
    mean, spread = trained.mean.view(4), trained.spread.view(4)
    inner, outer = vae.quant_conv, vae.post_quant_conv
    factor = 1 / (spread * SCALE)
    inner.weight[:4] *= factor.view(4, 1, 1, 1)
    inner.bias[:4] = (inner.bias[:4] - mean) * factor
    inner.weight[4:], inner.bias[4:] = 0, -20.0
    outer.bias += outer.weight[:, :, 0, 0] @ mean
    outer.weight *= (spread * SCALE).view(1, 4, 1, 1)
    return vae


def token_table(compact: Tensor) -> Tensor:
    """The table of 49,408 rows: trained rows in their places, the row of unknown words everywhere else."""
    table = compact[-1].repeat(49408, 1)
    table[known_tokens()] = compact[:-1]
    return table


def checkpoint(pair: Pair, vae: AutoencoderKL) -> dict[str, Tensor]:
    """All weights under the names of the ordinary SD 1 checkpoint."""
    text = {
        f"cond_stage_model.transformer.text_model.{k.removeprefix('text_model.')}": v
        for k, v in pair.text.state_dict().items()
        if "position_ids" not in k
    }
    table = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    text[table] = token_table(text[table])
    return {
        **{f"model.diffusion_model.{k}": v for k, v in unet_keys(pair.unet.state_dict()).items()},
        **{f"first_stage_model.{k}": v for k, v in vae_keys(vae.state_dict()).items()},
        **text,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PACKAGE / "models")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    vae = ordinary_vae(load_vae())
    state = {k: v.half().contiguous() for k, v in sorted(checkpoint(load_pair(), vae).items())}
    path = arguments.out / f"{NAME}.safetensors"
    save_file(state, path, metadata=METADATA)
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, text width {TEXT_WIDTH}")


if __name__ == "__main__":
    main()
