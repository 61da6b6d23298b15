"""Prints the pip arguments that make pip take the right torch for this machine; for the Makefile.

On Linux, PyPI's torch carries CUDA: gigabytes that a machine without an NVIDIA GPU has no use for. So:

- ``LATENTD_TORCH=cpu``, ``=cuda`` (PyPI's build) or ``=<index URL>`` decides, when it is set;
- elsewhere than Linux on x86-64 or ARM, and where an NVIDIA device is found: PyPI's build;
- else PyTorch's own index of CPU builds is added, if it can be reached within a few seconds. A CPU build has a version
  such as ``2.13.0+cpu``, which pip prefers to PyPI's ``2.13.0``. If it cannot be reached, pip takes what its
  configured indexes have.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SECONDS = 4.0
NVIDIA_SIGNS = ("/proc/driver/nvidia/version", "/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")


def pip_arguments(choice: str) -> tuple[list[str], str]:
    """The arguments, and why."""
    if choice == "cpu":
        return ["--extra-index-url", CPU_INDEX], "CPU build, as LATENTD_TORCH says"
    if choice == "cuda":
        return [], "PyPI's build, as LATENTD_TORCH says"
    if choice:
        return ["--extra-index-url", choice], f"the build of {choice}, as LATENTD_TORCH says"
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        return [], "PyPI's build, which has no CUDA on this kind of machine"
    if has_nvidia():
        return [], "PyPI's build with CUDA: an NVIDIA device is here"
    if can_reach(CPU_INDEX):
        return ["--extra-index-url", CPU_INDEX], "CPU build: no NVIDIA device is here"
    return [], f"what pip's own indexes have: {CPU_INDEX} cannot be reached"


def has_nvidia() -> bool:
    """Whether the driver of an NVIDIA GPU shows itself (also in containers and under WSL)."""
    return shutil.which("nvidia-smi") is not None or any(Path(sign).exists() for sign in NVIDIA_SIGNS)


def can_reach(url: str) -> bool:
    """Whether the index answers."""
    try:
        with urllib.request.urlopen(f"{url}/torch/", timeout=SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


if __name__ == "__main__":
    arguments, reason = pip_arguments(os.environ.get("LATENTD_TORCH", "").strip())
    print(f"torch: {reason}", file=sys.stderr)
    print(" ".join(arguments))
