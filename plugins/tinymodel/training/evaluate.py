"""Draws held-out prompts and measures them; prints the figures and writes a contact sheet. `python evaluate.py`."""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cache import load_vae
from export import load_pair
from features import background, ranking
from paths import SCRATCH, motifs
from PIL import Image
from sampler import sample
from scenes import held_out
from text import encode_captions
from torch import Tensor
from train_unet import Pair

SHEET = (
    "a cat on a blue background",
    "a panda on a yellow background",
    "a pizza, green background",
    "a rocket on a black background",
    "a strawberry on a pink background",
    "a penguin on a cyan background",
    "a house on a white background",
    "a frog on a purple background",
    "a red apple and a pizza, green background",
    "a dog and a cat on an orange background",
    "a sunflower, sky background",
    "an octopus on a gray background",
    "a robot, night background",
    "a hamburger",
    "a car on a brown background",
    "a lion on a red background",
    "a cake and a balloon, pink background",
    "a ghost, sunset background",
    "a bee and a rose and a tree",
    "a key, meadow background",
)


@torch.no_grad()
def draw(pair: Pair, vae, prompts: list[str], edge: int, *, steps: int, scale: float, seed: int) -> list[np.ndarray]:  # type: ignore[no-untyped-def]
    """Pictures (edge, edge, 3), uint8, one a prompt."""
    pictures: list[np.ndarray] = []
    few = max(1, 25 * 128 * 128 // (edge * edge))

    def denoise(noisy: Tensor, at: Tensor, context: Tensor) -> Tensor:
        return pair.unet(noisy, at, context).sample

    empty = pair.text(input_ids=encode_captions([""])).last_hidden_state
    for start in range(0, len(prompts), few):
        context = pair.text(input_ids=encode_captions(prompts[start : start + few])).last_hidden_state
        latents = sample(denoise, context, empty, (edge // 8, edge // 8), steps=steps, scale=scale, seed=seed + start)
        pixels = vae.decode(latents).clamp(-1, 1)
        pictures += list(((pixels + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return pictures


def draw_by_server(
    address: str, prompts: list[str], edge: int, *, steps: int, scale: float, seed: int
) -> list[np.ndarray]:
    """The same pictures' kind, drawn by a running latentd as any client asks for them."""
    pictures = []
    for number, prompt in enumerate(prompts):
        body = {"prompt": prompt, "width": edge, "height": edge, "steps": steps, "cfg_scale": scale}
        body |= {"seed": seed + number, "sampler_name": "Euler a"}
        request = urllib.request.Request(
            f"{address}/sdapi/v1/txt2img", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as reply:
            data = base64.b64decode(json.load(reply)["images"][0])
        pictures.append(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    return pictures


def unseen_prompts(count: int) -> list[tuple[int, str, str]]:
    """(motif, colour, prompt) over all motifs, on backgrounds that training never put behind them."""
    number = len(motifs())
    chosen = []
    for i in range(count):
        motif = (i * (1 if count >= number else number // count)) % number
        colour = held_out(motif)[(i // number) % 2]
        entry = motifs()[motif]
        name = f"{entry['article']} {entry['name']}".strip()
        form = ("{} on a {} background", "{}, {} background")[(i // number) % 2]
        chosen.append((motif, colour, form.format(name, colour)))
    return chosen


def sheet(pictures: list[np.ndarray], columns: int, path: Path) -> None:
    """Writes the pictures side by side, in rows of `columns`."""
    edge = len(pictures[0])
    canvas = Image.new("RGB", (columns * (edge + 4) + 4, -(-len(pictures) // columns) * (edge + 4) + 4), "white")
    for i, picture in enumerate(pictures):
        canvas.paste(Image.fromarray(picture), (4 + i % columns * (edge + 4), 4 + i // columns * (edge + 4)))
    canvas.save(path, optimize=True)


def drawn(prompts: list[str], arguments: argparse.Namespace, options: dict[str, Any]) -> list[np.ndarray]:
    """The pictures, by the server that was named or else by the recipe's own sampler from what training left."""
    if arguments.server:
        return draw_by_server(arguments.server, prompts, arguments.edge, **options)
    return draw(load_pair(), load_vae(), prompts, arguments.edge, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=128)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--scale", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--server", help="draw by the latentd at this address, not by the recipe's own sampler")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of 20 chosen prompts here, and stop")
    parser.add_argument("--all", type=Path, default=SCRATCH / "evaluation.png", help="where all pictures go")
    arguments = parser.parse_args()
    options = {"steps": arguments.steps, "scale": arguments.scale, "seed": arguments.seed}
    if arguments.sheet:
        sheet(drawn(list(SHEET), arguments, options), 5, arguments.sheet)
        return
    chosen = unseen_prompts(arguments.count)
    random.Random(0).shuffle(chosen)
    begun = time.monotonic()
    pictures = drawn([prompt for _, _, prompt in chosen], arguments, options)
    seconds = (time.monotonic() - begun) / len(pictures)
    ground = first = five = 0
    for (motif, colour, prompt), picture in zip(chosen, pictures, strict=True):
        small = picture
        if arguments.edge > 256:  # things on large canvases are then about as large as those of the references
            small = np.asarray(Image.fromarray(picture).resize((256, 256), Image.Resampling.BOX))
        order = ranking(small, colour, len(motifs()))
        found = background(small)
        ground, first, five = ground + (found == colour), first + (order[0] == motif), five + (motif in order[:5])
        if order[0] != motif or found != colour:
            print(f"  {prompt}: looks like {motifs()[order[0]]['name']} on {found}")
    count = len(pictures)
    print(
        f"{count} unseen prompts, {arguments.edge}x{arguments.edge}, Euler a, {arguments.steps} steps, "
        f"CFG {arguments.scale:g}, seed {arguments.seed}: background {ground / count:.1%} (chance {1 / 12:.1%}), "
        f"motif top-1 {first / count:.1%} (chance {1 / len(motifs()):.1%}), top-5 {five / count:.1%} "
        f"(chance {5 / len(motifs()):.1%}); {seconds:.2f} s a picture"
    )
    sheet(pictures, 20, arguments.all)


if __name__ == "__main__":
    main()
