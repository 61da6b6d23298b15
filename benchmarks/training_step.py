"""What a training step costs beside a bare torch loop of the same forward and backward on the same weights, by turns.

An embedding of four vectors, a hypernetwork, and a LoRA of rank 8 on the UNet's attentions are trained on one
checkpoint; the bare loop does no more than encode the ids, add noise, call the UNet, and step the optimiser. One
process, so only the ratio means anything on a shared machine. Prints a table with the process's memory; asserts
nothing.

    python benchmarks/training_step.py --data-dir DIR --size 128
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import torch
import torch.nn.functional as F
from latentd_training.captions import Prompter
from latentd_training.dataset import DataSet, Example
from latentd_training.embedding import EmbeddingLearner
from latentd_training.hypernetwork import HypernetworkLearner, Structure
from latentd_training.learning_rate import parse_schedule
from latentd_training.loop import Trainer, make_optimizer
from latentd_training.lora import LoraLearner, LoraOptions
from latentd_training.settings import LoopOptions

from latentd.api import TrainableModel, trainable_model
from latentd.server.services import AppServices, create_services
from latentd.settings import parse_settings

Step = Callable[[], None]
WORD = "zqx"


def trainer_of(learner: Any, model: TrainableModel, size: int) -> Trainer:
    """A trainer over random latents."""
    shape = (4, size // 8, size // 8)
    examples = [Example(str(n), "", torch.randn(shape), None, None) for n in range(5)]
    options = LoopOptions(steps=10**6, rate=parse_schedule("1e-3", "rate"), seed=1)
    prompter = Prompter(lines=[f"a photo of {WORD}"], name=WORD)
    return Trainer(
        learner, model, DataSet(examples), prompter, options, make_optimizer("AdamW", learner.groups(), 1e-3)
    )


def bare_embedding(model: TrainableModel, size: int) -> Step:
    """A step of textual inversion and nothing besides."""
    encoder, unet = model.model.text_encoders[0], model.model.unet
    vectors = torch.randn(4, encoder.architecture.width, requires_grad=True)
    optimizer = torch.optim.AdamW([vectors], lr=1e-3)
    ids = torch.full((1, 77), 49407)
    alphas, latents = model.model.alphas_cumprod(), torch.randn(1, 4, size // 8, size // 8)

    def step() -> None:
        hidden = encoder.hidden_states(ids, {0: [(4, vectors)]})
        context = encoder.final_norm(hidden.from_end(1))
        bare_loss(unet, context, latents, alphas).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


def bare_lora(model: TrainableModel, size: int, options: LoraOptions) -> Step:
    """A step of LoRA and nothing besides; the changes are those of the learner, on the same layers."""
    learner = LoraLearner("bare", Path("bare"), model, options, 1)
    optimizer = torch.optim.AdamW(list(learner.tensors().values()), lr=1e-3)
    with torch.no_grad():
        context = model.encode_texts([f"a photo of {WORD}"], size=(size, size)).context
    alphas, latents = model.model.alphas_cumprod(), torch.randn(1, 4, size // 8, size // 8)

    def step() -> None:
        with learner.acting(model):
            bare_loss(model.model.unet, context, latents, alphas).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


def bare_hypernetwork(model: TrainableModel, size: int) -> Step:
    """A step of a hypernetwork and nothing besides; its networks stand before the layers of keys and values."""
    structure, chance, unet = Structure(), torch.Generator(), model.model.unet
    networks = {
        width: (structure.build(width, chance), structure.build(width, chance)) for width in model.attention_widths
    }
    layers = [
        (layer, networks[layer.in_features][number])
        for number, ending in enumerate((".to_k", ".to_v"))
        for name, layer in unet.named_modules()
        if name.endswith(ending)
    ]
    parameters = [one for pair in networks.values() for network in pair for one in network.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    with torch.no_grad():
        context = model.encode_texts([f"a photo of {WORD}"], size=(size, size)).context
    alphas, latents = model.model.alphas_cumprod(), torch.randn(1, 4, size // 8, size // 8)

    def step() -> None:
        handles = [layer.register_forward_pre_hook(changed(network)) for layer, network in layers]
        bare_loss(unet, context, latents, alphas).backward()  # type: ignore[no-untyped-call]
        for handle in handles:
            handle.remove()
        optimizer.step()
        optimizer.zero_grad()

    return step


def changed(network: torch.nn.Module) -> Callable[[torch.nn.Module, tuple[torch.Tensor]], torch.Tensor]:
    """A hook before a layer that adds to the context what the network says of it."""

    def hook(layer: torch.nn.Module, args: tuple[torch.Tensor]) -> torch.Tensor:
        added: torch.Tensor = args[0] + network(args[0])
        return added

    return hook


def bare_loss(unet: Any, context: torch.Tensor, latents: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
    """The loss of one noisy latent."""
    timestep = torch.randint(0, len(alphas), (1,))
    noise = torch.randn_like(latents)
    noisy = alphas[timestep].sqrt() * latents + (1 - alphas[timestep]).sqrt() * noise
    return F.mse_loss(unet(noisy, timestep, encoder_hidden_states=context).sample, noise)


def ours(trainer: Trainer, hooks: Any) -> Step:
    """A step of the trainer."""

    def step() -> None:
        trainer.step(1e-3, hooks)
        trainer.learner.step += 1

    return step


def measure(name: str, ours_step: Step, bare_step: Step, rounds: int) -> None:
    """Print the medians of both, done by turns, and of their ratio."""
    rows = []
    for number in range(rounds + 2):
        times = []
        for step in (ours_step, bare_step):
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
        if number >= 2:
            rows.append(times)
    mine, bare = (1000 * statistics.median(times) for times in zip(*rows, strict=True))
    ratio = statistics.median(first / second for first, second in rows)
    memory = psutil.Process().memory_info().rss / 2**20
    print(f"{name:12} {mine:10.1f} {bare:10.1f} {ratio:8.3f} {memory:10.0f}", flush=True)


def run(services: AppServices, arguments: argparse.Namespace) -> None:
    """Measure every kind; on the worker."""
    torch.manual_seed(0)
    with trainable_model(services) as model:
        size = arguments.size
        width = model.model.text_encoders[0].architecture.width
        learner = EmbeddingLearner(WORD, Path("none"), {"": torch.randn(4, width)}, 0)
        with learner.acting(model) as hooks:
            trainer = trainer_of(learner, model, size)
            measure("embedding", ours(trainer, hooks), bare_embedding(model, size), arguments.rounds)
        hyper = HypernetworkLearner.create(WORD, Path("none"), Structure(), model.attention_widths, 1)
        with hyper.acting(model) as hooks:
            trainer = trainer_of(hyper, model, size)
            measure("hypernetwork", ours(trainer, hooks), bare_hypernetwork(model, size), arguments.rounds)
        options = LoraOptions(rank=8, targets=frozenset({"attention"}))
        lora = LoraLearner(WORD, Path("none"), model, options, 1)
        bare = bare_lora(model, size, options)
        trainer = trainer_of(lora, model, size)

        def step() -> None:
            with lora.acting(model) as hooks:
                ours(trainer, hooks)()

        measure("lora", step, bare, arguments.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--data-dir", help="data directory with a checkpoint; default: the carried tiny model")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--data-dir", arguments.data_dir or folder]
        services = create_services(parse_settings(flags, environment={}), serve_http=False)
        try:
            print(f"{'':12} {'ours, ms':>10} {'bare, ms':>10} {'ratio':>8} {'RSS, MiB':>10}")
            asyncio.run(services.run_on_worker(lambda control: run(services, arguments), kind="benchmark"))
        finally:
            services.close()


if __name__ == "__main__":
    main()
