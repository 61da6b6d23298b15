"""Run many mixed jobs against a server process and print what it holds in memory along the way (``make soak``)."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from server_process import ask, call, server_process

SMALL = {"width": 64, "height": 64, "prompt": "a red circle", "steps": 2, "sampler_name": "Euler"}
#: The first part of the jobs fills caches and pools; growth is counted from there on.
WARM_UP = 0.25
#: Results that are kept are no leak; in a long run they would look like one.
FLAGS = ("--result-ttl", "5")
#: Types named at the end, those that grew most.
SHOWN = 12
#: A plugin for the server under test: it counts the objects that Python's collector knows, by type.
PROBE = """
import gc
from collections import Counter
from latentd.api import APIRouter, hookimpl

@hookimpl
def register_routes(services):
    router = APIRouter(prefix="/soak/v1")

    @router.get("/objects")
    def objects() -> dict[str, int]:
        gc.collect()
        return Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())

    return [router]
"""


def main() -> int:
    """0 when resident memory grew by no more than ``--most`` MiB after the warm-up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--every", type=int, default=50, help="jobs between two lines")
    parser.add_argument("--port", type=int, default=7871)
    parser.add_argument("--most", type=float, default=5.0, help="MiB that the server may grow by after the warm-up")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPATH"] = os.pathsep.join([_probe(Path(folder)), os.environ.get("PYTHONPATH", "")])
        (Path(folder) / "data").mkdir()
        with server_process("--port", str(given.port), "--data-dir", f"{folder}/data", *FLAGS) as server:
            return _soak(server.url, psutil.Process(server.process.pid), given)


def _probe(folder: Path) -> str:
    """A folder from which Python loads the plugin as if it were installed."""
    info = folder / "soakprobe-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: soakprobe\nVersion: 0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[latentd]\nsoakprobe = soakprobe\n", encoding="utf-8")
    (folder / "soakprobe.py").write_text(PROBE, encoding="utf-8")
    return str(folder)


def _soak(address: str, process: psutil.Process, given: argparse.Namespace) -> int:
    choose = random.Random(given.seed)
    counts: Counter[str] = Counter()
    picture = call(address, "/sdapi/v1/txt2img", SMALL)["images"][0]
    warm = max(int(given.jobs * WARM_UP), 1)
    samples: list[tuple[float, Counter[str]]] = []
    print("jobs    MiB   objects  threads  files")
    for number in range(1, given.jobs + 1):
        kind = choose.choice(list(KINDS))
        counts[f"{kind} {KINDS[kind](address, picture, choose)}"] += 1
        if number % given.every == 0 or number in (warm, given.jobs):
            objects = Counter(call(address, "/soak/v1/objects"))
            held = process.memory_info().rss / 2**20
            if number >= warm:
                samples.append((held, objects))
            print(
                f"{number:4} {held:6.1f} {objects.total():9} {process.num_threads():8} {process.num_fds():6}",
                flush=True,
            )
    print(", ".join(f"{name}: {count}" for name, count in sorted(counts.items())))
    return _verdict(samples, given.jobs - warm, given.most)


def _verdict(samples: list[tuple[float, Counter[str]]], jobs: int, most: float) -> int:
    """Print what grew over ``samples``, (MiB, objects by type); 0 when memory grew by at most ``most`` MiB.

    The least of the first and of the last quarter are compared: what a job holds while it runs, and what the allocator
    keeps of it for a while, come and go in steps of about 12 MiB.
    """
    part = max(len(samples) // 4, 1)
    first, last = (min(held for held, _ in some) for some in (samples[:part], samples[-part:]))
    objects = samples[-1][1] - samples[0][1]
    print(f"{jobs} jobs after the warm-up: {last - first:+.1f} MiB")
    print("objects that grew:", ", ".join(f"{name} {count:+}" for name, count in objects.most_common(SHOWN)))
    return 0 if last - first <= most else 1


def _post(address: str, path: str, body: Any) -> int:
    """The status of the answer."""
    return ask(address, "POST", path, body)[0]


def _text(address: str, _: str, choose: random.Random) -> int:
    return _post(address, "/sdapi/v1/txt2img", {**SMALL, "seed": choose.randrange(2**31), "batch_size": 2})


def _image(address: str, picture: str, choose: random.Random) -> int:
    body = {**SMALL, "init_images": [picture], "denoising_strength": 0.5, "seed": choose.randrange(2**31)}
    return _post(address, "/sdapi/v1/img2img", body)


def _hires(address: str, _: str, choose: random.Random) -> int:
    size = choose.choice([1.5, 2.0])
    return _post(
        address, "/sdapi/v1/txt2img", {**SMALL, "enable_hr": True, "hr_scale": size, "denoising_strength": 0.6}
    )


def _extras(address: str, picture: str, _: random.Random) -> int:
    body = {"image": picture, "upscaler_1": "Lanczos", "upscaling_resize": 2}
    return _post(address, "/sdapi/v1/extra-single-image", body)


def _cancelled(address: str, _: str, choose: random.Random) -> int:
    """A job that is interrupted while it runs, or just before or after."""
    timer = threading.Timer(choose.random() * 0.3, lambda: _post(address, "/sdapi/v1/interrupt", {}))
    timer.start()
    status = _post(address, "/sdapi/v1/txt2img", {**SMALL, "steps": 60})
    timer.join()
    return status


def _failing(address: str, _: str, choose: random.Random) -> int:
    wrong: dict[str, Any] = choose.choice(
        [
            {"sampler_name": "none of that name"},
            {"override_settings": {"sd_model_checkpoint": "none of that name"}},
            {"script_name": "none of that name"},
            {"width": 10**5, "height": 10**5},
        ]
    )
    return _post(address, "/sdapi/v1/txt2img", {**SMALL, **wrong})


KINDS = {
    "txt2img": _text,
    "img2img": _image,
    "hires": _hires,
    "extras": _extras,
    "cancelled": _cancelled,
    "failing": _failing,
}

if __name__ == "__main__":
    sys.exit(main())
