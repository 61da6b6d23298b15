"""What the tests share: flags, requests, and work whose actor a test can find."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from latentd_ray import link

from latentd.api import ExecutorJob, JobControl, Services

#: Seconds that anything may take; an actor imports torch first.
PATIENCE = 120.0
SHIPPED_SILENCE = link.SILENCE
SMALL: dict[str, Any] = {"prompt": "a red circle", "steps": 3, "width": 64, "height": 64, "seed": 7}


class Serve(Protocol):
    def __call__(self, *flags: str) -> Any:
        """A client of a new server; without ``--ray-address`` it draws by itself."""


def on_ray(actors: int, *flags: str) -> tuple[str, ...]:
    return ("--ray-address", "auto", "--ray-gpus", "0", "--ray-cpus", "0.1", "--ray-min-actors", str(actors), *flags)


def until(holds: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def drawn(client: Any, **fields: Any) -> dict[str, Any]:
    """Pictures and infotexts of txt2img."""
    reply = client.post("/sdapi/v1/txt2img", json={**SMALL, **fields})
    assert reply.status_code == 200, reply.text
    body = reply.json()
    return {"images": body["images"], "infotexts": json.loads(body["info"])["infotexts"]}


def put_model(folder: Path, checkpoint: Path, name: str = "base.safetensors") -> Path:
    """The checkpoint among the models of a data folder."""
    place = folder / "models/Stable-diffusion" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.hardlink_to(checkpoint)
    return place


def say_process(services: Services, control: JobControl) -> int:
    return os.getpid()


def wait_and_say(services: Services, control: JobControl, seconds: float) -> int:
    """The process that it runs in, after so many seconds; each step is a twentieth of one."""
    control.progress.job_count = 1
    for step in range(int(seconds * 20)):
        control.check()
        control.progress.sampling_step = step
        time.sleep(0.05)
    return os.getpid()


def process_of(services: Any, place: str) -> int:
    job: ExecutorJob[int] = services.engine.submit(
        services.portable(say_process), kind="load", quiet=True, device=place
    )
    return job.join(PATIENCE)


def states(services: Any) -> dict[str, str]:
    return {place.name: place.state for place in services.engine.places()}
