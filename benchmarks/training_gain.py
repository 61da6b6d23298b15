"""What a training gains with the tiny model, over HTTP alone: the loss on held-out noise, pictures nearer the motif.

Five pictures of one motif are drawn; an embedding, a hypernetwork and a LoRA learn them from prompts without its name.
Prints for each the loss on noise that was never trained on before and after, and how far pictures by the prompt trained
on are from the five, by the features with which the tiny model's own evaluation tells motifs apart; and that a training
broken off half-way and gone on with ends where an unbroken one does. Asserts nothing.

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
import urllib.request
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

    def train(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What the job that trains gave, by the jobs API; and its seconds."""
        began = time.perf_counter()
        task = f"gain-{began}"
        self.ask(path, body | {"id_task": task})
        while (job := self.ask(f"/latentd/v1/jobs/{task}"))["state"] in ("queued", "running"):
            time.sleep(0.2)
        if job["error"]:
            raise SystemExit(f"{path}: {job['error']}")
        return {**job["result"], "seconds": time.perf_counter() - began}


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
    kinds = ["embedding", "hypernetwork", "lora", "resumed"]
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds)
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
    rates = dict(zip(("embedding", "hypernetwork", "lora"), arguments.rates, strict=True))

    if "embedding" in arguments.only:
        client.ask("/sdapi/v1/create/embedding", {"name": "zqx", "num_vectors_per_token": 4})
        before = distance(client, "zqx", given, arguments.pictures)
        body = common | {"template_filename": "subject.txt", "learn_rate": rates["embedding"]}
        result = client.train("/sdapi/v1/train/embedding", body | {"embedding_name": "zqx"})
        report("embedding", result, before, distance(client, "zqx", given, arguments.pictures))
    common["template_filename"] = "captions.txt"
    before = distance(client, WORD, given, arguments.pictures)
    if "hypernetwork" in arguments.only:
        client.ask("/sdapi/v1/create/hypernetwork", {"name": "zqh", "seed": 1})
        body = common | {"learn_rate": rates["hypernetwork"], "hypernetwork_name": "zqh"}
        result = client.train("/sdapi/v1/train/hypernetwork", body)
        report("hypernetwork", result, before, distance(client, f"{WORD} <hypernet:zqh:1>", given, arguments.pictures))
    body = common | {"learn_rate": rates["lora"], "rank": 8}
    if "lora" in arguments.only or "resumed" in arguments.only:
        result = client.train("/latentd/v1/train/lora", body | {"name": "zql"})
        report("lora", result, before, distance(client, f"{WORD} <lora:zql:1>", given, arguments.pictures))
    if "resumed" in arguments.only:
        resumed(client, body, result)


def resumed(client: Client, body: dict[str, Any], unbroken: dict[str, Any]) -> None:
    """Break a LoRA's training off half-way by /interrupt, draw with it, go on, and compare with the unbroken one."""
    client.ask("/sdapi/v1/options", {"save_optimizer_state": True})
    half = body["steps"] // 2
    client.ask("/latentd/v1/train/lora", body | {"name": "zqb", "id_task": "half"})
    while (job := client.ask("/latentd/v1/jobs/half"))["state"] in ("queued", "running"):
        if job["batch"] >= half:
            client.ask("/sdapi/v1/interrupt", {})
        time.sleep(0.05)
    stopped = job["result"]["step"]
    client.draw(f"{WORD} <lora:zqb:1>", 1)
    result = client.train("/latentd/v1/train/lora", body | {"name": "zqb", "resume": True})
    whole, both = (list(one["held_out_loss"].values())[-1] for one in (unbroken, result))
    apart = 100 * (both / whole - 1)
    print(
        f"\ninterrupted at step {stopped} and gone on with: held out {both:.4f}, unbroken {whole:.4f} ({apart:+.2f} %)"
    )


if __name__ == "__main__":
    main()
