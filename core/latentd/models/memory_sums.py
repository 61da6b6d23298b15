"""One report of memory for several processes and devices, in the shape of ``/sdapi/v1/memory``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from latentd.types import JsonValue

Report = Mapping[str, Mapping[str, JsonValue]]


def together(first: Report, *others: Report) -> dict[str, Mapping[str, JsonValue]]:
    """The report of all processes: what they use is added up, and the machine's main memory counts once."""
    rams = [report["ram"] for report in (first, *others) if "error" not in report["ram"]]
    ram: Mapping[str, JsonValue] = first["ram"]
    if rams:
        used = sum(int(ram["used"]) for ram in rams)
        total = rams[0]["total"]
        ram = {"free": total - used, "used": used, "total": total}
    devices = [report["cuda"] for report in (first, *others) if "error" not in report["cuda"]]
    return {"ram": ram, "cuda": reduce(added, devices) if devices else first["cuda"]}


def added(one: Mapping[str, JsonValue], other: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Two nested reports with their numbers added."""
    return {
        key: added(value, other[key]) if isinstance(value, Mapping) else value + other[key]
        for key, value in one.items()
    }
