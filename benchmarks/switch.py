"""Switching to a checkpoint of 2 GB beside no more than reading its files and casting them to float32 in one thread.

Both by turns in one process, from the page cache, or with ``--cold`` from the disk. Prints a table with the process's
greatest memory; asserts nothing.

    python benchmarks/switch.py --pairs 5
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import tempfile
import time
from pathlib import Path

from _random_models import random_folder
from _report import Figure, Report, ratios

from latentd.models.allocator import give_back_memory, keep_freed_memory
from latentd.server.services import AppServices, create_services
from latentd.settings import parse_settings


def forget(folder: Path) -> None:
    """Drop the folder's files from the page cache."""
    for path in folder.rglob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plain(folder: Path) -> float:
    """Seconds of reading and casting every weight, in one thread."""
    import torch
    from safetensors.torch import load_file

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    began = time.perf_counter()
    weights = [{k: v.float() for k, v in load_file(path).items()} for path in folder.rglob("*.safetensors")]
    seconds = time.perf_counter() - began
    torch.set_num_threads(threads)
    del weights
    give_back_memory()
    return seconds


def load(services: AppServices) -> float:
    """Seconds until the checkpoint is loaded, with none before it; on the worker."""
    services.models.unload()
    give_back_memory()
    began = time.perf_counter()
    services.models.reload()
    return time.perf_counter() - began


def compare(report: Report, services: AppServices, folder: Path, arguments: argparse.Namespace) -> None:
    """Both by turns; on the worker."""
    mine, bare = [], []
    for number in range(arguments.pairs + 1):
        seconds = []
        for way in (0, 1):
            if way == 0:
                services.models.unload()
            if arguments.cold:
                forget(folder)
            seconds.append(plain(folder) if way == 0 else load(services))
        if number:
            bare.append(seconds[0])
            mine.append(seconds[1])
    where = "disk" if arguments.cold else "page cache"
    report.add(
        f"switch of a checkpoint, from the {where}, s",
        latentd=Figure.of(mine), plain=Figure.of(bare), ratio=ratios(mine, bare),
        peak_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="read from the disk, not from the page cache")
    parser.add_argument("--model", choices=("sd15", "tiny"), default="sd15")
    parser.add_argument("--folder", help="where the random model is kept; default: a temporary folder (2.1 GB)")
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    keep_freed_memory()
    report = Report("switch")
    with tempfile.TemporaryDirectory() as temporary:
        folder = random_folder(Path(arguments.folder or Path(temporary, "model")), arguments.model).resolve()
        checkpoints = Path(temporary, "data", "models", "Stable-diffusion")
        checkpoints.mkdir(parents=True)
        (checkpoints / "random").symlink_to(folder, target_is_directory=True)
        flags = ["--data-dir", str(checkpoints.parents[1]), "--core-only", "--no-hashing"]
        services = create_services(parse_settings(flags, environment={}), serve_http=False)
        try:
            work = lambda control: compare(report, services, folder, arguments)  # noqa: E731
            asyncio.run(services.run_on_worker(work, kind="benchmark"))
        finally:
            services.close()
    report.write(arguments.json)


if __name__ == "__main__":
    main()
