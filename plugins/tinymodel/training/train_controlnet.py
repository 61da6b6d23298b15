"""Trains the canny ControlNet beside the finished UNet: `python train_controlnet.py --minutes 12`."""

from __future__ import annotations

import argparse
import math
import random
import time

import cv2
import numpy as np
import torch
from diffusers import ControlNetModel
from export import load_pair
from ldm_keys import unet_keys
from parallel import agree, average_gradients, join
from paths import PACKAGE, SCRATCH
from safetensors.torch import save_file
from scenes import caption, render
from text import encode_captions
from torch import Tensor
from train_unet import PLAN, Pair, Shards, read_shards

from networks import TEXT_WIDTH, UNET_ATTENTION, UNET_CHANNELS, alphas_bar

SIZES = {(16, 16): 0.55, (24, 16): 0.07, (16, 24): 0.07, (32, 32): 0.24, (64, 64): 0.07}


def edges(picture: np.ndarray) -> np.ndarray:
    """Canny edges at the usual thresholds, (h, w, 3), 0 or 255."""
    return cv2.Canny(picture, 100, 200)[..., None].repeat(3, -1)


def make_controlnet(pair: Pair) -> ControlNetModel:
    """A copy of the UNet's encoder with a hint network; next to nothing flows out of it before it is trained."""
    down = tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in UNET_ATTENTION)
    net = ControlNetModel(
        in_channels=4,
        block_out_channels=UNET_CHANNELS,
        down_block_types=down,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=8,
        conditioning_embedding_out_channels=(16, 32, 96, 256),
    )
    copied = {k: v for k, v in pair.unet.state_dict().items() if k in net.state_dict()}
    net.load_state_dict(copied, strict=False)
    # The ways in and out are zero by custom; a little noise there lets learning start at once.
    for layer in (net.controlnet_cond_embedding.conv_out, net.controlnet_mid_block, *net.controlnet_down_blocks):
        torch.nn.init.normal_(layer.weight, std=0.01)
    return net


def predict(pair: Pair, net: ControlNetModel, noisy: Tensor, at: Tensor, context: Tensor, hint: Tensor) -> Tensor:
    """The UNet's noise with the ControlNet's residuals in it."""
    down, middle = net(noisy, at, context, hint, return_dict=False)
    return pair.unet(
        noisy, at, context, down_block_additional_residuals=down, mid_block_additional_residual=middle
    ).sample


def draw_batch(shards: Shards, size: tuple[int, int], rng: random.Random) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, row numbers and hints (n, 3, 8h, 8w) in 0..1; three captions in ten are empty."""
    latents, scenes = shards[size]
    picks = [(s, rng.randrange(len(scenes[s]))) for s in rng.choices(range(len(scenes)), k=PLAN[size][0])]
    texts = ["" if rng.random() < 0.3 else caption(scenes[s][i], rng) for s, i in picks]
    hints = np.stack([edges(render(scenes[s][i])) for s, i in picks])
    return (
        torch.stack([latents[s][i] for s, i in picks]).float(),
        encode_captions(texts),
        torch.from_numpy(hints).permute(0, 3, 1, 2).float() / 255,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--rate", type=float, default=1e-3)
    arguments = parser.parse_args()
    rank = join()
    torch.manual_seed(3)
    pair, bars, path, shards = load_pair(), alphas_bar(), SCRATCH / "controlnet.pt", {}
    read_shards(shards, set())
    net, spent, step = make_controlnet(pair), 0.0, 0
    optimiser = torch.optim.AdamW(net.parameters(), lr=arguments.rate, betas=(0.9, 0.99), weight_decay=1e-3)
    if path.exists():
        state = torch.load(path)
        net.load_state_dict(state["model"]), optimiser.load_state_dict(state["optimiser"])
        spent, step = state["spent"], state["step"]
    rng = random.Random(500 + 1000 * rank + step)
    torch.manual_seed(500 + 1000 * rank + step)
    begun, kept, shown = time.monotonic() - spent, time.monotonic(), []
    while (spent := agree(time.monotonic() - begun)) < arguments.minutes * 60:
        done = spent / (arguments.minutes * 60)
        optimiser.param_groups[0]["lr"] = (
            arguments.rate * min(1, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * done))
        )
        size = random.Random(step).choices(list(SIZES), list(SIZES.values()))[0]
        clean, tokens, hint = draw_batch(shards, size, rng)
        at = (200 + 799.99 * torch.rand(len(clean))).long()
        bar = bars[at].view(-1, 1, 1, 1)
        noise = torch.randn_like(clean)
        noisy = bar.sqrt() * clean + (1 - bar).sqrt() * noise
        context = pair.text(input_ids=tokens).last_hidden_state
        loss = ((1 / bar).clamp(max=4) * (predict(pair, net, noisy, at, context, hint) - noise).square()).mean()
        optimiser.zero_grad()
        loss.backward()
        average_gradients(net.parameters())
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        step += 1
        shown.append(loss.item())
        if step % 50 == 0 and rank == 0:
            print(f"step {step} {spent:.0f}s loss {sum(shown) / len(shown):.4f}", flush=True)
            shown = []
        if time.monotonic() - kept > 60 and rank == 0:
            save(path, net, optimiser, spent, step)
            kept = time.monotonic()
    if rank == 0:
        save(path, net, optimiser, spent, step)
        export(net)


def save(path, net, optimiser, spent, step) -> None:  # type: ignore[no-untyped-def]
    """Writes all that resuming needs."""
    torch.save({"model": net.state_dict(), "optimiser": optimiser.state_dict(), "spent": spent, "step": step}, path)


def export(net: ControlNetModel) -> None:
    """Writes the package's file in fp16 under LDM's names."""
    path = PACKAGE / "models" / "latentd-tiny-canny.safetensors"
    named = unet_keys(net.state_dict())
    save_file({f"control_model.{k}": v.half().contiguous() for k, v in sorted(named.items())}, path)
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
