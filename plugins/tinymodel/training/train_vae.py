"""Trains the autoencoder: L1 and gradients, on scenes and on close-ups. `python train_vae.py --minutes 20`."""

from __future__ import annotations

import argparse
import copy
import math
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from parallel import agree, average_gradients, join
from paths import SCRATCH, motifs, picture_folder
from PIL import Image
from scenes import COLOURS, draw_scene, render
from torch import Tensor

from networks import TinyVae


def close_up(rng: random.Random, edge: int, others: list[str]) -> np.ndarray:
    """A window of `edge` pixels somewhere on a motif (one in six: on any other emoji), at scales up to 512's."""
    asset = rng.choice(others) if rng.random() < 0.17 else str(rng.choice(motifs())["asset"])
    extent = round(math.exp(rng.uniform(math.log(40), math.log(430))))
    with Image.open(picture_folder() / f"{asset}.webp") as tile:
        tile = tile.convert("RGBA").resize((extent, extent), Image.Resampling.BICUBIC)
    shade = np.clip(np.array(rng.choice(list(COLOURS.values()))) + rng.randint(-20, 20), 0, 255)
    canvas = Image.new("RGB", (edge, edge), tuple(int(v) for v in shade))
    reach = max(0.0, (extent - edge) / 2) + edge * 0.3
    x, y = (edge / 2 - extent / 2 + rng.uniform(-reach, reach) for _ in range(2))
    canvas.paste(tile, (round(x), round(y)), tile)
    return np.asarray(canvas)


def batch(rng: random.Random, others: list[str]) -> Tensor:
    """Pixels (n, 3, h, w) in -1..1: mostly close-ups of 64x64, else scenes of 128 or one of 256."""
    roll = rng.random()
    if roll < 0.7:
        pictures = [close_up(rng, 64, others) for _ in range(8)]
    elif roll < 0.95:
        pictures = [render(draw_scene(rng, (128, 128))) for _ in range(2)]
    else:
        pictures = [render(draw_scene(rng, (256, 256)))]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def loss_of(output: Tensor, target: Tensor) -> Tensor:
    """L1 of the pixels, of their differences along both axes, and of the picture at half size."""
    error = output - target
    edges = (error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()) / 2
    return error.abs().mean() + edges + F.avg_pool2d(error, 4).abs().mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="length of the cosine schedule in wall time")
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--refine", action="store_true", help="decoder only, its block at full size included")
    arguments = parser.parse_args()
    rank = join()
    torch.manual_seed(1)
    model, path = TinyVae(), SCRATCH / "vae.pt"
    spent, step = 0.0, 0
    if arguments.refine:
        model.load_state_dict(torch.load(path)["model"])
        path = SCRATCH / "vae-refined.pt"
        model.unskip()
        model.vae.encoder.requires_grad_(False)
        model.vae.quant_conv.requires_grad_(False)
    average = copy.deepcopy(model).requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=arguments.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    resume = path.with_suffix(".state.pt")
    if resume.exists():
        state = torch.load(resume)
        model.load_state_dict(state["model"]), average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        spent, step = state["spent"], state["step"]
    rng = random.Random(1000 * rank + step)
    torch.manual_seed(1000 * rank + step)
    others = sorted(p.stem for p in picture_folder().glob("1f[3-6]*.webp") if "-" not in p.stem)
    begun, kept, shown = time.monotonic() - spent, time.monotonic(), []
    while (spent := agree(time.monotonic() - begun)) < arguments.minutes * 60:
        done = spent / (arguments.minutes * 60)
        rate = arguments.rate * min(1, (step + 1) / 20) * (0.5 + 0.5 * math.cos(math.pi * done))
        optimiser.param_groups[0]["lr"] = rate
        pixels = batch(rng, others)
        latents = model.encode(pixels)
        output = model.decode(latents + 0.07 * torch.randn_like(latents))
        loss = loss_of(output, pixels) + 0.005 * latents.square().mean()
        optimiser.zero_grad()
        loss.backward()
        average_gradients(trained)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        step += 1
        torch._foreach_lerp_(
            list(average.parameters()), [p.data for p in model.parameters()], 1 - min(0.99, step / (step + 10))
        )
        shown.append((output - pixels).square().mean().item())
        if step % 25 == 0 and rank == 0:
            psnr = -10 * math.log10(sum(shown) / len(shown) / 4)
            print(f"step {step} {spent:.0f}s loss {loss.item():.4f} psnr {psnr:.2f}", flush=True)
            shown = []
        if time.monotonic() - kept > 60 and rank == 0:
            save(path, model, average, optimiser, spent, step)
            kept = time.monotonic()
    if rank == 0:
        if not arguments.refine:
            measure_latents(average)
        save(path, model, average, optimiser, spent, step)


@torch.no_grad()
def measure_latents(model: TinyVae) -> None:
    """Sets the means and spreads by which latents are normalised, from 64 scenes."""
    rng = random.Random(9)
    pictures = np.stack([render(draw_scene(rng, (128, 128))) for _ in range(64)])
    latents = model.encode(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1)
    model.mean.copy_(latents.mean((0, 2, 3)).view(4, 1, 1))
    model.spread.copy_(latents.std((0, 2, 3)).view(4, 1, 1))
    print("latent mean and spread", model.mean.flatten().tolist(), model.spread.flatten().tolist(), flush=True)


def save(path, model, average, optimiser, spent, step) -> None:  # type: ignore[no-untyped-def]
    """Writes the averaged weights and, beside them, all that resuming needs."""
    torch.save({"model": average.state_dict()}, path)
    torch.save(
        {
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimiser": optimiser.state_dict(),
            "spent": spent,
            "step": step,
        },
        path.with_suffix(".state.pt"),
    )


if __name__ == "__main__":
    main()
