"""Figures of a benchmark: medians with their spread, the machine they were measured on, and a JSON file of them."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """Median, least and greatest of what was measured."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """The figure of ``values``, of which there is at least one."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.least:.3g} to {self.greatest:.3g})"


def ratios(mine: Sequence[float], other: Sequence[float]) -> Figure:
    """The figure of ``mine / other``, pair by pair."""
    return Figure.of([a / b for a, b in zip(mine, other, strict=True)])


@dataclass(slots=True)
class Report:
    """What one run of a benchmark found; prints each row when it is added."""

    benchmark: str
    rows: list[dict[str, object]] = field(default_factory=list)

    def add(self, what: str, **figures: object) -> None:
        """A row: ``what`` was measured, and its figures by name."""
        self.rows.append({"what": what, **figures})
        print(f"{what:44} " + "  ".join(f"{name} {value}" for name, value in figures.items()), flush=True)

    def write(self, path: str | None) -> None:
        """Write everything as JSON to ``path``, if one is given."""
        if path:
            rows = [{k: asdict(v) if isinstance(v, Figure) else v for k, v in row.items()} for row in self.rows]
            document = {"benchmark": self.benchmark, "machine": machine(), "rows": rows}
            Path(path).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, object]:
    """What the figures depend on beside the code."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": processor(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
