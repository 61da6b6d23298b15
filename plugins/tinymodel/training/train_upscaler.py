"""Trains the 4x upscaler on emoji scenes: `python train_upscaler.py --minutes 8`; prints its gain over Lanczos."""

from __future__ import annotations

import argparse
import math
import random
import time

import numpy as np
import torch
from paths import PACKAGE, SCRATCH, picture_folder
from PIL import Image
from safetensors.torch import save_file
from scenes import COLOURS
from torch import Tensor
from upscaler_network import TinyRrdb


def assets() -> tuple[list[str], list[str]]:
    """Emoji for training and, one in twenty, for measuring; motifs of the model and any others alike."""
    names = sorted(p.stem for p in picture_folder().glob("1f[3-9]*.webp") if "-" not in p.stem)
    return [n for i, n in enumerate(names) if i % 20], names[::20]


def pair(rng: random.Random, asset: str, edge: int) -> tuple[Tensor, Tensor]:
    """A small picture (3, edge, edge) and the large one it was reduced from, 0..1."""
    large = edge * 4
    with Image.open(picture_folder() / f"{asset}.webp") as tile:
        extent = min(256, round(rng.uniform(0.5, 1.6) * large))
        tile = tile.convert("RGBA").resize((extent, extent), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (large, large), rng.choice(list(COLOURS.values())))
    reach = max(0, extent - large) // 2 + large // 8
    x, y = (large // 2 - extent // 2 + rng.randint(-reach, reach) for _ in range(2))
    canvas.paste(tile, (x, y), tile)
    small = canvas.resize((edge, edge), rng.choice((Image.Resampling.LANCZOS, Image.Resampling.BICUBIC)))
    return _tensor(small), _tensor(canvas)


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


@torch.no_grad()
def measure(model: TinyRrdb) -> tuple[float, float]:
    """Mean PSNR (dB) over the held-out emoji of the network and of Lanczos, 64 to 256 pixels."""
    rng, ours, plain = random.Random(5), [], []
    for asset in assets()[1][:40]:
        small, large = pair(rng, asset, 64)
        picture = Image.fromarray((small * 255).round().byte().permute(1, 2, 0).numpy())
        lanczos = _tensor(picture.resize((256, 256), Image.Resampling.LANCZOS))
        output = (model(small[None])[0].clamp(0, 1) * 255).round() / 255
        for psnr, guess in ((ours, output), (plain, lanczos)):
            psnr.append(-10 * math.log10((guess - large).square().mean().item()))
    return sum(ours) / len(ours), sum(plain) / len(plain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--rate", type=float, default=8e-4)
    arguments = parser.parse_args()
    torch.manual_seed(4)
    rng, model, path = random.Random(4), TinyRrdb(), SCRATCH / "upscaler.pt"
    optimiser = torch.optim.Adam(model.parameters(), lr=arguments.rate, betas=(0.9, 0.99))
    spent, step, names = 0.0, 0, assets()[0]
    if path.exists():
        state = torch.load(path)
        model.load_state_dict(state["model"]), optimiser.load_state_dict(state["optimiser"])
        spent, step = state["spent"], state["step"]
    begun, kept = time.monotonic() - spent, time.monotonic()
    while (spent := time.monotonic() - begun) < arguments.minutes * 60:
        done = spent / (arguments.minutes * 60)
        optimiser.param_groups[0]["lr"] = (
            arguments.rate * min(1, (step + 1) / 30) * (0.5 + 0.5 * math.cos(math.pi * done))
        )
        smalls, larges = zip(*(pair(rng, rng.choice(names), 24) for _ in range(6)), strict=True)
        error = model(torch.stack(smalls)) - torch.stack(larges)
        loss = (error.square() + 1e-4).sqrt().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimiser.step()
        step += 1
        if step % 100 == 0:
            print(f"step {step} {spent:.0f}s loss {loss.item():.4f}", flush=True)
        if time.monotonic() - kept > 60:
            torch.save(
                {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "spent": spent, "step": step}, path
            )
            kept = time.monotonic()
    torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "spent": spent, "step": step}, path)
    export(model.eval())


def export(model: TinyRrdb) -> None:
    """Writes the package's file in fp16 and prints what the file gives on held-out emoji."""
    model.load_state_dict({k: v.half().float() for k, v in model.state_dict().items()})
    ours, plain = measure(model)
    path = PACKAGE / "models" / "latentd-tiny-x4.safetensors"
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, path)
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB; held-out PSNR {ours:.2f} dB, Lanczos {plain:.2f} dB")


if __name__ == "__main__":
    main()
