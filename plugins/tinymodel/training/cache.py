"""Encodes scenes once and keeps their latents: `python cache.py` writes numbered shards until it is stopped."""

from __future__ import annotations

import argparse
import random

import numpy as np
import torch
from paths import SCRATCH
from scenes import Scene, draw_scene, render

from networks import TinyVae

# Latent size (width, height) and how many scenes of it one round of shards holds.
ROUND: tuple[tuple[tuple[int, int], int], ...] = (
    ((16, 16), 640),
    ((24, 24), 64),
    ((24, 16), 48),
    ((16, 24), 48),
    ((32, 32), 240),
    ((48, 32), 16),
    ((32, 48), 16),
    ((48, 48), 32),
    ((64, 64), 100),
)


def load_vae() -> TinyVae:
    """The trained autoencoder, in evaluation mode: with its fine blocks where they have been refined.

    Blocks that training left out stay out: they are the identity.
    """
    refined = SCRATCH / "vae-refined.pt"
    model = TinyVae()
    if refined.exists():
        model.unskip()
    model.load_state_dict(torch.load(refined if refined.exists() else SCRATCH / "vae.pt")["model"])
    return model.eval().requires_grad_(False)


def encode(model: TinyVae, scenes: list[Scene]) -> torch.Tensor:
    """Latents (n, 4, h/8, w/8) of equally large scenes."""
    pixels = torch.from_numpy(np.stack([render(scene) for scene in scenes])).permute(0, 3, 1, 2).float() / 127.5 - 1
    return model.encode(pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    model, folder = load_vae(), SCRATCH / "latents"
    folder.mkdir(exist_ok=True)
    for number in range(arguments.rounds):
        path = folder / f"{number:04d}.pt"
        if path.exists():
            continue
        rng, shard = random.Random(1000 + number), {}
        for (width, height), count in ROUND:
            scenes = [draw_scene(rng, (width * 8, height * 8)) for _ in range(count)]
            few = max(1, 2048 // (width * height))
            parts = [encode(model, scenes[i : i + few]).half() for i in range(0, count, few)]
            shard[width, height] = (torch.cat(parts), scenes)
        torch.save(shard, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
        print(path.name, flush=True)


if __name__ == "__main__":
    main()
