"""Trains the UNet and the text encoder on cached latents. `python train_unet.py --minutes 80`; again to resume."""

from __future__ import annotations

import argparse
import copy
import math
import random
import time
from pathlib import Path

import torch
from parallel import agree, average_gradients, join
from paths import SCRATCH
from scenes import Scene, caption
from text import encode_captions, rows
from torch import Tensor, nn

from networks import alphas_bar, make_text_encoder, make_unet

Shards = dict[tuple[int, int], tuple[list[Tensor], list[list[Scene]]]]
# Latent size: batch of one process, weight while shapes are learned, weight afterwards.
# A step costs about the same at each size.
PLAN: dict[tuple[int, int], tuple[int, float, float]] = {
    (16, 16): (16, 0.85, 0.18),
    (24, 24): (7, 0.05, 0.06),
    (24, 16): (10, 0.03, 0.03),
    (16, 24): (10, 0.03, 0.03),
    (32, 32): (4, 0.04, 0.26),
    (48, 32): (3, 0.0, 0.02),
    (32, 48): (3, 0.0, 0.02),
    (48, 48): (2, 0.0, 0.08),
    (64, 64): (1, 0.0, 0.32),
}


class Pair(nn.Module):
    """The text encoder and the UNet, trained as one."""

    def __init__(self) -> None:
        super().__init__()
        self.text = make_text_encoder(rows())
        self.unet = make_unet()
        for name, parameter in self.unet.named_parameters():
            if name.startswith("conv_out.") or "conv2." in name or "proj_out." in name:
                nn.init.zeros_(parameter)  # every branch starts silent

    def forward(self, noisy: Tensor, steps: Tensor, tokens: Tensor) -> Tensor:
        """The noise in `noisy` (n, 4, h, w) at time steps (n,) given row numbers (n, 77)."""
        return self.unet(noisy, steps, self.text(input_ids=tokens).last_hidden_state).sample


def read_shards(shards: Shards, seen: set[Path]) -> None:
    """Adds the shards that were written since the last look."""
    for path in sorted((SCRATCH / "latents").glob("*.pt")):
        if path not in seen:
            seen.add(path)
            for size, (latents, scenes) in torch.load(path, weights_only=False).items():
                held = shards.setdefault(size, ([], []))
                held[0].append(latents)
                held[1].append(scenes)


def draw_batch(shards: Shards, size: tuple[int, int], rng: random.Random) -> tuple[Tensor, Tensor]:
    """Latents (n, 4, h, w) and row numbers (n, 77); one caption in ten is empty."""
    latents, scenes = shards[size]
    count = PLAN[size][0]
    picks = [(shard, rng.randrange(len(scenes[shard]))) for shard in rng.choices(range(len(scenes)), k=count)]
    texts = ["" if rng.random() < 0.1 else caption(scenes[s][i], rng) for s, i in picks]
    return torch.stack([latents[s][i] for s, i in picks]).float(), encode_captions(texts)


def add_noise(clean: Tensor, bars: Tensor, power: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Noisy latents, time steps, the noise to predict and the weight of each sample.

    Time is u^power: late steps are drawn more often, the more so at first, when words are learned. Errors count by
    1 + sigma^2 up to 25, in between the weighting of noise and that of velocity. The schedule ends with some signal
    left while sampling starts from none, so half of the last steps see pure noise, and are asked for the noise that
    would have led there from the clean latents.
    """
    steps = (999.99 * torch.rand(len(clean)) ** power).long()
    bar = bars[steps].view(-1, 1, 1, 1)
    noise = torch.randn_like(clean)
    noisy = bar.sqrt() * clean + (1 - bar).sqrt() * noise
    pure = ((steps > 960) & (torch.rand(len(clean)) < 0.5)).view(-1, 1, 1, 1)
    noisy = torch.where(pure, noise, noisy)
    target = (noisy - bar.sqrt() * clean) / (1 - bar).sqrt()
    return noisy, steps, target, (1 / bar).clamp(max=25.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=170, help="length of the cosine schedule in wall time")
    parser.add_argument("--rate", type=float, default=1e-3)
    arguments = parser.parse_args()
    rank = join()
    torch.manual_seed(2)
    model, bars, path = Pair(), alphas_bar(), SCRATCH / "unet.pt"
    if (SCRATCH / "unet-start.pt").exists():
        model.load_state_dict(torch.load(SCRATCH / "unet-start.pt")["model"])
    else:
        model.text.load_state_dict(torch.load(SCRATCH / "text.pt")["model"])
    average = copy.deepcopy(model).requires_grad_(False)
    listening = [p for name, p in model.unet.named_parameters() if ".attn2." in name]
    others = [p for name, p in model.unet.named_parameters() if ".attn2." not in name]
    groups = [{"params": others}, {"params": listening}, {"params": list(model.text.parameters())}]
    optimiser = torch.optim.AdamW(groups, lr=arguments.rate, betas=(0.9, 0.99), weight_decay=1e-3)
    resume, spent, step = path.with_suffix(".state.pt"), 0.0, 0
    if resume.exists():
        state = torch.load(resume)
        model.load_state_dict(state["model"]), average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        spent, step = state["spent"], state["step"]
    rng, shards, seen = random.Random(1000 * rank + step), {}, set()
    torch.manual_seed(1000 * rank + step)
    read_shards(shards, seen)
    begun, kept, shown = time.monotonic() - spent, time.monotonic(), []
    while (spent := agree(time.monotonic() - begun)) < arguments.minutes * 60:
        done = spent / (arguments.minutes * 60)
        rate = arguments.rate * min(1, (step + 1) / 60) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * done)))
        for group, factor in zip(optimiser.param_groups, (1.0, 3.0, 0.3), strict=True):
            group["lr"] = rate * factor
        size = random.Random(step).choices(list(PLAN), [entry[1 if done < 0.36 else 2] for entry in PLAN.values()])[0]
        clean, tokens = draw_batch(shards, size, rng)
        # Large latents keep their coarse shapes under noise for longer, so what they show is decided later.
        power = 0.4 if done < 0.2 or min(size) >= 48 else 0.65 if min(size) < 32 else 0.5
        noisy, steps, target, weight = add_noise(clean, bars, power)
        with torch.autocast("cpu", torch.bfloat16, enabled=done < 0.85):  # a quarter faster where the CPU has it
            predicted = model(noisy, steps, tokens)
        error = (predicted.float() - target).square()
        loss = (weight * error).mean()
        optimiser.zero_grad()
        loss.backward()
        average_gradients(model.parameters())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - min(0.997, step / (step + 20)))
        if size == (16, 16):
            shown.append(loss.item())
        if step % 50 == 0 and rank == 0:
            print(f"step {step} {spent:.0f}s rate {rate:.1e} loss {sum(shown) / max(1, len(shown)):.4f}", flush=True)
            shown = []
        if step % 100 == 0:
            read_shards(shards, seen)
        if time.monotonic() - kept > 90 and rank == 0:
            save(path, model, average, optimiser, spent, step)
            kept = time.monotonic()
    if rank == 0:
        save(path, model, average, optimiser, spent, step)


def save(path, model, average, optimiser, spent, step) -> None:  # type: ignore[no-untyped-def]
    """Writes the averaged weights and, beside them, all that resuming needs, each in one stroke."""
    for target, value in (
        (path, {"model": average.state_dict()}),
        (
            path.with_suffix(".state.pt"),
            {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "spent": spent,
                "step": step,
            },
        ),
    ):
        torch.save(value, target.with_suffix(".part"))
        target.with_suffix(".part").rename(target)


if __name__ == "__main__":
    main()
