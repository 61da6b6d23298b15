"""What a training gains with the tiny model, over HTTP alone: the loss on held-out noise, pictures nearer the motif.

Five pictures of one motif are drawn; an embedding, a hypernetwork and a LoRA learn them from prompts without its name.
Prints for each the loss on noise that was never trained on before and after, and how far pictures by the prompt trained
on are from the five, by the features with which the tiny model's own evaluation tells motifs apart. Each is then
trained again, broken off half-way by /interrupt, drawn with, and gone on with, to end where the unbroken one did.
Asserts nothing.

    python benchmarks/training_gain.py --steps 300
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _data import ROOT
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(ROOT / "tools"))
sys.path.insert(0, str(ROOT / "plugins/tinymodel/training"))

from server_process import server_process

MOTIF = "a frog on a purple background"
EDGE = 128
WORD = "thing"


class Client:
    """The server, asked over HTTP."""

    def __init__(self, url: str, data: Path) -> None:
        self.url = url
        self.data = data
        self.rows: list[list[NDArray[np.uint8]]] = []
        """What was trained on, then for each kind what its prompt drew before and after."""

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer's body, to a POST where there is a body to send."""
        payload = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=payload, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=3600) as reply:
            return json.load(reply)

    def draw(self, prompt: str, seed: int) -> NDArray[np.uint8]:
        """The pixels of a picture."""
        body = {"prompt": prompt, "seed": seed, "steps": 20, "width": EDGE, "height": EDGE, "cfg_scale": 6}
        text = self.ask("/sdapi/v1/txt2img", body | {"sampler_name": "Euler a"})["images"][0]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))

    def train(
        self, path: str, body: dict[str, Any], watch: Callable[[dict[str, Any]], None] = lambda job: None
    ) -> dict[str, Any]:
        """What the job that trains gave, by the jobs API; and its seconds. ``watch`` sees the job as it runs."""
        began = time.perf_counter()
        task = f"gain-{began}"
        with ThreadPoolExecutor(1) as beside:
            reply = beside.submit(self.ask, path, body | {"id_task": task})
            while not reply.done() or self.job(task)["state"] in ("queued", "running"):
                watch(self.job(task))
                time.sleep(0.05)
            reply.result()
        if (job := self.job(task))["error"]:
            raise SystemExit(f"{path}: {job['error']}")
        return {**job["result"], "seconds": time.perf_counter() - began}

    def job(self, task: str) -> dict[str, Any]:
        """The document of a job; an empty one before the server knows of it."""
        try:
            return dict(self.ask(f"/latentd/v1/jobs/{task}"))
        except urllib.error.HTTPError:
            return {"batch": 0, "state": "unknown"}


def distance(client: Client, prompt: str, given: list[NDArray[np.uint8]], count: int) -> float:
    """The mean over ``count`` pictures of the distance to the nearest of the given ones."""
    from features import describe  # type: ignore[import-not-found]

    known = np.stack([describe(picture) for picture in given])
    drawn = [client.draw(prompt, 1000 + seed) for seed in range(count)]
    client.rows.append(drawn)
    return float(np.mean([np.square(known - describe(one)).sum(1).min() for one in drawn]))


def report(name: str, result: dict[str, Any], before: float, after: float) -> None:
    """A row of the table."""
    losses = list(result["held_out_loss"].values())
    gain = 100 * (1 - losses[-1] / losses[0])
    row = f"{losses[0]:10.4f} {losses[-1]:10.4f} {gain:8.1f} % {before:10.3f} {after:10.3f}"
    print(f"{name:14} {row} {result['seconds']:9.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--pictures", type=int, default=8, help="drawn before and after to see how near they are")
    parser.add_argument(
        "--rates", nargs=3, default=["0.05:200, 0.01", "5e-4", "1e-3"], help="embedding, hypernetwork, LoRA"
    )
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--unbroken", action="store_true", help="break none off half-way")
    parser.add_argument("--sheet", type=Path, help="save the pictures: those given, then a row before and one after")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server_process("--data-dir", folder) as process:
        client = Client(process.url, Path(folder))
        measure(client, arguments)
        if arguments.sheet:
            contact_sheet(client.rows).save(arguments.sheet)


def contact_sheet(rows: list[list[NDArray[np.uint8]]]) -> Image.Image:
    """The pictures in their rows, on white."""
    gap = 4
    sheet = Image.new("RGB", (max(map(len, rows)) * (EDGE + gap) - gap, len(rows) * (EDGE + gap) - gap), "white")
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (column * (EDGE + gap), row * (EDGE + gap)))
    return sheet


def measure(client: Client, arguments: argparse.Namespace) -> None:
    """Print the table."""
    given = [client.draw(MOTIF, seed) for seed in range(5)]
    client.rows.append(given)
    pictures = client.data / "train/motif"
    pictures.mkdir(parents=True)
    for number, picture in enumerate(given):
        Image.fromarray(picture).save(pictures / f"{number}.png")
        (pictures / f"{number}.txt").write_text(WORD)
    common: dict[str, Any] = {
        "data_root": "motif",
        "training_width": EDGE,
        "training_height": EDGE,
        "steps": arguments.steps,
        "create_image_every": 0,
        "latent_sampling_method": "random",
        "validate_every": arguments.steps,
        "seed": 1,
    }
    head = ("held out 0", "after", "gain", "distance 0", "after")
    print(f"{'':14} {head[0]:>10} {head[1]:>10} {head[2]:>10} {head[3]:>10} {head[4]:>10} {'training':>11}")
    rates = dict(zip(KINDS, arguments.rates, strict=True))
    client.ask("/sdapi/v1/options", {"save_optimizer_state": True})
    for name in arguments.only:
        kind = KINDS[name]
        body = common | kind.fields | {"learn_rate": rates[name]}
        kind.create(client, "zqx")
        before = distance(client, kind.before, given, arguments.pictures)
        result = client.train(kind.route, body | {kind.name_field: "zqx"})
        report(name, result, before, distance(client, kind.prompt.format("zqx"), given, arguments.pictures))
        if not arguments.unbroken:
            resumed(client, kind, body, result)


@dataclass(frozen=True)
class Kind:
    """One kind of training.

    ``name_field`` is the field with the name, ``before`` and ``prompt`` prompts without and with what is trained,
    ``created`` the route and fields that make it beforehand, ``resume`` the fields that go on with it.
    """

    route: str
    name_field: str
    fields: dict[str, Any]
    before: str
    prompt: str
    created: tuple[str, dict[str, Any]] | None = None
    resume: dict[str, Any] = field(default_factory=dict)

    def create(self, client: Client, name: str) -> None:
        """Make what is trained, where it is made beforehand."""
        if self.created is not None:
            route, fields = self.created
            client.ask(route, {"name": name, **fields})


KINDS = {
    "embedding": Kind(
        "/sdapi/v1/train/embedding",
        "embedding_name",
        {"template_filename": "subject.txt"},
        before="zqx",
        prompt="{}",
        created=("/sdapi/v1/create/embedding", {"num_vectors_per_token": 4}),
    ),
    "hypernetwork": Kind(
        "/sdapi/v1/train/hypernetwork",
        "hypernetwork_name",
        {"template_filename": "captions.txt"},
        before=WORD,
        prompt=f"{WORD} <hypernet:{{}}:1>",
        created=("/sdapi/v1/create/hypernetwork", {"seed": 1}),
    ),
    "lora": Kind(
        "/latentd/v1/train/lora",
        "name",
        {"template_filename": "captions.txt", "rank": 8},
        before=WORD,
        prompt=f"{WORD} <lora:{{}}:1>",
        resume={"resume": True},
    ),
}


def resumed(client: Client, kind: Kind, body: dict[str, Any], unbroken: dict[str, Any]) -> None:
    """Break a training off half-way by /interrupt, draw with its file, go on, and compare with the unbroken one."""
    half = body["steps"] // 2
    kind.create(client, "qyv")
    body = body | {kind.name_field: "qyv"}

    def interrupt(job: dict[str, Any]) -> None:
        if job["batch"] >= half:
            client.ask("/sdapi/v1/interrupt", {})

    stopped = client.train(kind.route, body, interrupt)["step"]
    client.draw(kind.prompt.format("qyv"), 1)
    result = client.train(kind.route, body | kind.resume)
    whole, both = (list(one["held_out_loss"].values())[-1] for one in (unbroken, result))
    apart = 100 * (both / whole - 1)
    print(f"{'':6}interrupted at step {stopped}, drawn with, gone on with: {both:.4f}, {apart:+.3f} % from unbroken")


if __name__ == "__main__":
    main()
