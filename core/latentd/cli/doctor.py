"""``latentd doctor``: what is installed, found and wrong, to read and to paste into an issue."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from latentd import __version__
from latentd.cli.log_lines import escaped
from latentd.cli.settings import read_settings
from latentd.settings import Settings
from latentd.settings.parse import CommandParser, flags_parser

if TYPE_CHECKING:
    from latentd.server.services import AppServices

DESCRIPTION = (
    "Say what is installed, found and wrong: versions, device, folders, models, plugins, requirements. No secret is "
    "shown; paste it into an issue."
)
_PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "pillow", "numpy", "fastapi", "uvicorn", "pydantic")
_KINDS = ("Stable-diffusion", "VAE", "Lora", "embeddings", "hypernetworks", "ControlNet", "ESRGAN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: what is said of ``about``, and whether something is wrong with it."""

    about: str
    said: str
    wrong: bool = False


def run(arguments: Sequence[str]) -> int:
    """Print the findings; returns 1 if something is wrong."""
    mine = CommandParser("latentd doctor", add_help=False)
    mine.add_argument("--json", action="store_true", help="print the findings as JSON")
    own, rest = mine.parse_known_args(list(arguments))
    settings = read_settings(rest, flags_parser("latentd doctor", DESCRIPTION, also=mine.spellings))
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)  # the findings say the same
    try:
        findings = examine(settings)
    finally:
        logging.disable(before)
    if own.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{'WRONG' if finding.wrong else '  ok '} {finding.about}: {escaped(finding.said)}")
    return 1 if any(finding.wrong for finding in findings) else 0


def examine(settings: Settings) -> list[Finding]:
    """Everything that is looked at, in the order in which it is printed."""
    from latentd.server.services import create_services

    findings = [*_versions(), *_devices(), *_folders(settings)]
    try:
        services = create_services(settings)
    except Exception as error:  # whatever keeps the server from starting is what the reader looks for
        return [*findings, Finding(about="server", said=f"{type(error).__name__}: {error}", wrong=True)]
    return [*findings, *_models(services), *_plugins(services), *_requirements()]


def _versions() -> list[Finding]:
    system = f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {platform.machine()}"
    found = [Finding(about="latentd", said=f"{__version__}, {system}")]
    for name in _PACKAGES:
        try:
            found.append(Finding(about=name, said=metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append(Finding(about=name, said="not installed", wrong=True))
    return found


def _devices() -> list[Finding]:
    try:
        import torch
    except Exception as error:  # a broken installation raises anything
        return [Finding(about="device", said=f"torch cannot be imported: {type(error).__name__}: {error}", wrong=True)]
    if torch.cuda.is_available():
        found = []
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            name = torch.cuda.get_device_name(number)
            said = f"{name}, {free >> 20} of {total >> 20} MiB free, CUDA {torch.version.cuda}"
            found.append(Finding(about=f"cuda:{number}", said=said))
        return found
    if torch.backends.mps.is_available():
        return [Finding(about="device", said="mps")]
    built = "" if torch.version.cuda is None else f"; torch is built for CUDA {torch.version.cuda} and finds no device"
    return [Finding(about="device", said=f"cpu, {torch.get_num_threads()} threads{built}")]


def _folders(settings: Settings) -> list[Finding]:
    paths = settings.paths
    free = shutil.disk_usage(next(place for place in (paths.data, *paths.data.parents) if place.exists())).free
    places = [
        ("data folder", paths.data),
        *((f"models {kind}", folder) for kind in _KINDS for folder in paths.models(kind)),
    ]
    found = [_folder(about, place) for about, place in places]
    return [*found, Finding(about="disk", said=f"{free >> 20} MiB free", wrong=free < 1 << 30)]


def _folder(about: str, place: Path) -> Finding:
    if not place.exists():
        return Finding(about=about, said=f"{place} does not exist")
    able = os.access(place, os.R_OK | os.X_OK), os.access(place, os.W_OK)
    missing = " and ".join(word for word, given in zip(("read", "written"), able, strict=True) if not given)
    return Finding(about=about, said=f"{place}{f' cannot be {missing}' if missing else ''}", wrong=not able[0])


def _models(services: AppServices) -> list[Finding]:
    checkpoints = list(services.models.checkpoints)
    found = [Finding(about="checkpoints", said=str(len(checkpoints)), wrong=not checkpoints)]
    if checkpoints:
        found.append(Finding(about="selected", said=services.models.current.title))
    counts = {"VAEs": len(list(services.models.vaes)), "LoRAs": len(services.lora_rows())}
    return [*found, *(Finding(about=kind, said=str(count)) for kind, count in counts.items())]


def _plugins(services: AppServices) -> list[Finding]:
    found = []
    for status in services.host.statuses.values():
        if status.builtin and status.state == "loaded":
            continue
        name = " ".join(filter(None, (status.distribution, status.version)))
        error = f": {status.error}" if status.error else ""
        said = f"{status.state}{f' ({name})' if name else ''}{error}"
        found.append(
            Finding(about=f"plugin {status.name}", said=said, wrong=status.state not in ("loaded", "disabled"))
        )
    return found


def _requirements() -> list[Finding]:
    command = [sys.executable, "-m", "pip", "check", "--disable-pip-version-check"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [Finding(about="requirements", said=f"pip check: {type(error).__name__}", wrong=True)]
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return [Finding(about="requirements", said=line, wrong=done.returncode != 0) for line in lines[:50]]
