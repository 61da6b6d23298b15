"""A request to latentd beside diffusers' own pipeline, on the same random weights of Stable Diffusion 1.5's shape.

Each is a process of its own, set up as its users have it; they draw by turns, and one waits while the other draws, so
only the ratios mean anything on a shared machine. A request begins with two prompts of 77 tokens and ends with a PNG in
base64. A step is the time between two calls of the UNet. Prints a table; asserts nothing.

    python benchmarks/against_diffusers.py --pairs 9 --steps 3 --size 512 -- --opt-channelslast
    python benchmarks/against_diffusers.py --controlnet     # with a ControlNet, on both sides
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _report import Figure, Report, ratios

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn

    from latentd.types import JsonValue

SIDES = ("latentd", "diffusers")
CONTROLNET_FILE = "diffusion_pytorch_model.safetensors"
PROMPT, NEGATIVE = "a red circle on a table", "blurry"
Request = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Seconds of one request, and of each of its steps; the process's greatest memory so far in MiB."""

    whole: float
    step: float
    peak: float

    def of(self, steps: int, asked: int) -> float:
        """The seconds that a request of ``asked`` steps would take, if this one had ``steps``."""
        return self.whole + (asked - steps) * self.step


@dataclass(slots=True)
class Clock:
    """When the UNet was called, during one request."""

    calls: list[float] = field(default_factory=list)

    def watch(self, unet: nn.Module) -> None:
        """Note every call of ``unet`` from now on; its first convolution runs once in each."""
        convolution: nn.Module = unet.conv_in  # type: ignore[assignment]
        convolution.register_forward_pre_hook(lambda module, given: self.calls.append(time.perf_counter()))

    def timed(self, request: Request) -> Drawn:
        """Make ``request``."""
        self.calls.clear()
        began = time.perf_counter()
        request()
        whole = time.perf_counter() - began
        step = statistics.median(b - a for a, b in zip(self.calls, self.calls[1:], strict=False))
        return Drawn(whole, step, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def control_picture(size: int) -> Image:
    """The outline that a ControlNet is given."""
    import PIL.Image
    from PIL import ImageDraw

    picture = PIL.Image.new("RGB", (size, size))
    ImageDraw.Draw(picture).ellipse([size // 4, size // 4, size // 4 * 3, size // 4 * 3], outline="white", width=3)
    return picture


def png_of(picture: Image) -> str:
    """``picture`` as a PNG in base64."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def unit_of(picture: Image) -> dict[str, JsonValue]:
    """A unit of the ControlNet plugin, which takes ``picture`` as it is."""
    return {"image": png_of(picture), "module": "none", "model": "random"}


# --- the two sides, each in its process ------------------------------------------------------------------------------


@contextmanager
def diffusers_side(arguments: argparse.Namespace, clock: Clock) -> Iterator[Request]:
    """diffusers' StableDiffusionPipeline as its documentation sets it up, in float32."""
    import diffusers
    import torch
    import transformers

    library: Any = diffusers  # it has untyped functions

    def part(package: Any, name: str, folder: str) -> Any:
        return getattr(package, name).from_pretrained(Path(arguments.folder, folder))

    parts: dict[str, Any] = {
        "vae": part(library, "AutoencoderKL", "vae").float(),
        "text_encoder": part(transformers, "CLIPTextModel", "text_encoder").float(),
        "unet": part(library, "UNet2DConditionModel", "unet").float(),
        "scheduler": part(library, "EulerDiscreteScheduler", "scheduler"),
    }
    absent = dict.fromkeys(("tokenizer", "safety_checker", "feature_extractor"))
    control: dict[str, Any] = {}
    if arguments.controlnet_folder:
        parts["controlnet"] = part(library, "ControlNetModel", arguments.controlnet_folder).float()
        control["image"] = control_picture(arguments.size)
    kind = "StableDiffusionControlNetPipeline" if control else "StableDiffusionPipeline"
    pipe = getattr(library, kind)(**parts, **absent, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    clock.watch(pipe.unet)
    ids = torch.full((1, 77), 49407)

    def request() -> str:
        with torch.no_grad():
            texts = [pipe.text_encoder(ids)[0] for _ in range(2)]
        picture = pipe(
            prompt_embeds=texts[0],
            negative_prompt_embeds=texts[1],
            num_inference_steps=arguments.steps,
            guidance_scale=7.0,
            **control,
            width=arguments.size,
            height=arguments.size,
            generator=torch.Generator().manual_seed(1),
        ).images[0]
        return png_of(picture)

    yield request


@contextmanager
def latentd_side(arguments: argparse.Namespace, clock: Clock) -> Iterator[Request]:
    """The server's own services, without HTTP, in a process as ``latentd serve`` prepares it."""
    from latentd.models.allocator import keep_freed_memory
    from latentd.server.services import create_services
    from latentd.settings import parse_settings
    from latentd.types import GenerationRequest

    keep_freed_memory()
    with tempfile.TemporaryDirectory() as data:
        checkpoints = Path(data, "models", "Stable-diffusion")
        checkpoints.mkdir(parents=True)
        (checkpoints / "random").symlink_to(Path(arguments.folder).resolve(), target_is_directory=True)
        plugins: list[str] = ["--core-only"]
        scripts: dict[str, JsonValue] = {}
        if arguments.controlnet_folder:
            nets = checkpoints.with_name("ControlNet")
            nets.mkdir()
            (nets / "random.safetensors").symlink_to(Path(arguments.controlnet_folder, CONTROLNET_FILE).resolve())
            plugins = ["--plugins", "controlnet"]
            scripts = {"ControlNet": {"args": [unit_of(control_picture(arguments.size))]}}
        flags = ["--data-dir", data, "--no-hashing", *plugins, *arguments.flags]
        services = create_services(parse_settings(flags, environment={}), serve_http=False)
        wanted = GenerationRequest(
            prompt=PROMPT,
            negative_prompt=NEGATIVE,
            seed=1,
            sampler_name="Euler",
            steps=arguments.steps,
            width=arguments.size,
            height=arguments.size,
            alwayson_scripts=scripts,
        )

        async def draw() -> str:
            result = await services.generate(wanted)
            return await services.images.encode(result.images[0].image, result.images[0].info)

        def watch(control: object) -> None:
            with services.models.lease() as model:
                clock.watch(model.unet)

        try:
            asyncio.run(services.run_on_worker(watch, kind="benchmark"))
            yield lambda: asyncio.run(draw())
        finally:
            services.close()


def serve_side(arguments: argparse.Namespace) -> None:
    """Draw at each line of the standard input, and print what it took as JSON."""
    clock = Clock()
    side = latentd_side if arguments.side == "latentd" else diffusers_side
    with side(arguments, clock) as request:
        print("ready", flush=True)
        for _ in sys.stdin:
            drawn = clock.timed(request)
            print(json.dumps([drawn.whole, drawn.step, drawn.peak]), flush=True)


# --- the comparison --------------------------------------------------------------------------------------------------


class Side:
    """The process of one side."""

    def __init__(self, name: str, folder: Path, arguments: argparse.Namespace) -> None:
        given = ["--side", name, "--folder", str(folder), "--steps", str(arguments.steps)]
        if arguments.controlnet_folder:
            given += ["--controlnet-folder", arguments.controlnet_folder]
        command = [sys.executable, __file__, *given, "--size", str(arguments.size), "--", *arguments.flags]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._answer("ready")

    def draw(self) -> Drawn:
        """One request."""
        assert self._process.stdin is not None
        self._process.stdin.write("draw\n")
        self._process.stdin.flush()
        return Drawn(*json.loads(self._answer("[")))

    def _answer(self, beginning: str) -> str:
        """The next line with that beginning; others are what libraries print."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(beginning):
                return line
        raise RuntimeError(f"a side ended with {self._process.wait()}")

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def compare(report: Report, folder: Path, arguments: argparse.Namespace) -> None:
    """Draw by turns and report."""
    sides = [Side(name, folder, arguments) for name in SIDES]
    try:
        pairs: list[list[Drawn]] = []
        for number in range(arguments.pairs + 1):
            order = (0, 1) if number % 2 else (1, 0)
            drawn = {which: sides[which].draw() for which in order}
            if number:  # the first is for warming up
                pairs.append([drawn[0], drawn[1]])
    finally:
        for side in sides:
            side.close()
    count, at = arguments.steps, f"{arguments.size}x{arguments.size}"
    _row(report, f"a step, {at}, s", pairs, lambda drawn: drawn.step)
    for asked in sorted({1, count, 20}):
        told = "" if asked == count else " (reckoned)"
        _row(report, f"a request, steps {asked}{told}, {at}, s", pairs, lambda drawn, n=asked: drawn.of(count, n))
    _row(report, "greatest memory, MiB", pairs, lambda drawn: drawn.peak)


def _row(report: Report, what: str, pairs: Sequence[Sequence[Drawn]], figure: Callable[..., float]) -> None:
    mine, other = ([figure(drawn) for drawn in side] for side in zip(*pairs, strict=True))
    report.add(what, latentd=Figure.of(mine), diffusers=Figure.of(other), ratio=ratios(mine, other))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--steps", type=int, default=3, help="steps of a request, at least 2")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--model", choices=("sd15", "tiny"), default="sd15")
    parser.add_argument("--folder", help="where the random model is kept; default: a temporary folder (2.1 GB)")
    parser.add_argument("--controlnet", action="store_true", help="with a ControlNet of the same shape")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--controlnet-folder", help=argparse.SUPPRESS)
    parser.add_argument("flags", nargs="*", help="flags of latentd, after --")
    arguments = parser.parse_args()
    if arguments.side:
        serve_side(arguments)
        return
    from _random_models import random_controlnet, random_folder

    report = Report("against_diffusers")
    with tempfile.TemporaryDirectory() as temporary:
        folder = random_folder(Path(arguments.folder or Path(temporary, "model")), arguments.model)
        if arguments.controlnet:
            arguments.controlnet_folder = str(random_controlnet(folder).resolve())
        compare(report, folder, arguments)
    report.write(arguments.json)


if __name__ == "__main__":
    main()
