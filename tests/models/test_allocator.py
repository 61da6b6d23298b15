"""Memory of tensors is used again rather than asked of the system each time, and is given back after a job."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

LARGE = 64 << 20
SCRIPT = f"""
import json, resource, sys, threading
from latentd.models import allocator

if sys.argv[1] == "kept":
    assert allocator.keep_freed_memory()
import torch

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def run():
    torch.ones({LARGE} // 4)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones({LARGE} // 4)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    kept = held()
    allocator.give_back_memory()
    print(json.dumps([faults, kept - held()]))

thread = threading.Thread(target=run)  # as jobs do
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone")
def test_memory_of_a_tensor_is_used_again_by_the_next() -> None:
    (fresh, _), (kept, returned) = (
        json.loads(subprocess.check_output([sys.executable, "-c", SCRIPT, how], text=True)) for how in ("", "kept")
    )
    # Five tensors of 16,384 pages of 4 KiB each; few with large pages.
    assert kept < fresh / 10 or kept < 100
    assert returned > LARGE // 2, "nothing was given back"
