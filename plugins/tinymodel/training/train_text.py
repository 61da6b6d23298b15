"""Teaches the text encoder to say what a caption names, before the UNet listens: `python train_text.py --minutes 4`.

From every position behind the caption a linear map must tell the background's colours and the motif in each place.
Cross-attention then finds the meaning wherever it looks; learned through the UNet alone this takes far longer.
"""

from __future__ import annotations

import argparse
import math
import random
import time

import torch
import torch.nn.functional as F
from paths import SCRATCH, motifs
from scenes import COLOURS, Scene, caption, draw_scene
from text import encode_captions, rows
from torch import Tensor, nn

from networks import TEXT_WIDTH, make_text_encoder

SLOTS = 3
LENGTH = 32  # captions end before; what follows in the 77 positions is more of the same end token


def answers(scene: Scene) -> tuple[list[int], list[float]]:
    """The motif number in each of three places (the count of motifs for none), and colours and size as numbers."""
    places = [number for number, *_ in scene.things] + [len(motifs())] * SLOTS
    colours = [value / 127.5 - 1 for name in (scene.top, scene.bottom) for value in COLOURS[name]]
    return places[:SLOTS], [*colours, float(scene.small)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--rate", type=float, default=3e-3)
    arguments = parser.parse_args()
    torch.manual_seed(6)
    torch.set_num_threads(1)
    rng, text = random.Random(6), make_text_encoder(rows())
    nn.init.normal_(text.get_input_embeddings().weight, std=0.3)
    heads = nn.Linear(TEXT_WIDTH, SLOTS * (len(motifs()) + 1) + 7)
    trained = [*text.parameters(), *heads.parameters()]
    optimiser = torch.optim.Adam(trained, lr=arguments.rate, betas=(0.9, 0.98))
    begun, step = time.monotonic(), 0
    while (spent := time.monotonic() - begun) < arguments.minutes * 60:
        rate = (
            arguments.rate * min(1, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * spent / arguments.minutes / 60))
        )
        optimiser.param_groups[0]["lr"] = rate
        scenes = [draw_scene(rng, (128, 128)) for _ in range(64)]
        tokens = encode_captions([caption(scene, rng) for scene in scenes])
        hidden = text(input_ids=tokens[:, :LENGTH]).last_hidden_state
        behind = hidden[torch.arange(len(scenes))[:, None], torch.randint(26, LENGTH, (len(scenes), 3))]
        guess = heads(torch.cat((behind, hidden[:, 22:].mean(1, keepdim=True)), 1))
        loss, right = score(guess, scenes)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        step += 1
        if step % 50 == 0:
            print(f"step {step} {spent:.0f}s loss {loss.item():.4f} first motif right {right:.1%}", flush=True)
    with torch.no_grad():
        positions = text.get_parameter(next(n for n, _ in text.named_parameters() if "position_embedding" in n))
        positions[LENGTH:] = positions[LENGTH - 1]
    torch.save({"model": text.state_dict()}, SCRATCH / "text.pt")


def score(guess: Tensor, scenes: list[Scene]) -> tuple[Tensor, float]:
    """The loss of guesses (n, k, d), and how often the first motif is right."""
    places, numbers = (torch.tensor(part) for part in zip(*(answers(scene) for scene in scenes), strict=True))
    n, k, _ = guess.shape
    logits = guess[..., :-7].reshape(n, k, SLOTS, -1)
    wanted = places[:, None].expand(n, k, SLOTS)
    named = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), wanted.reshape(-1))
    measured = (guess[..., -7:] - numbers[:, None]).square().mean()
    return named + 2 * measured, (logits[:, :, 0].argmax(-1) == wanted[..., 0]).float().mean().item()


if __name__ == "__main__":
    main()
