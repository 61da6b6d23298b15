"""Finding flags that cannot be followed, before anything is loaded."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from pathlib import Path

from latentd.settings.flag import declared_flags
from latentd.settings.parse import spelling
from latentd.settings.paths import FOLDER_FLAGS
from latentd.settings.ray_flags import RayFlags
from latentd.settings.settings import Settings

_TLS = ("tls_keyfile", "tls_certfile")
_FILES = ("ckpt", "vae_path")
#: Each place has a thread of the server.
MOST_ACTORS = 512


def check_settings(settings: Settings) -> None:
    """Check that the server can be started with ``settings``, also against the files on the disk.

    :raises ValueError: the first flag that cannot be followed, in one sentence.
    """
    if not settings.paths.data.is_dir():
        raise ValueError(f"--data-dir {settings.data_dir}: there is no such folder")
    _check_tls(settings)
    _check_devices(settings)
    _check_ray(settings)
    _ = settings.users
    if any(not key.strip() for key in settings.api_key):
        raise ValueError("--api-key is empty")


def _check_devices(settings: Settings) -> None:
    for name in settings.devices:
        if not re.fullmatch(r"(cuda|cpu):[0-9]{1,4}", name):
            raise ValueError(f"--devices {name}: name devices as cuda:0,cuda:1 or cpu:0,cpu:1")
        if settings.devices.count(name) > 1:
            raise ValueError(f"--devices names {name} twice")
    if settings.devices and settings.device_id is not None:
        raise ValueError("--devices and --device-id exclude each other")


def _check_ray(settings: Settings) -> None:
    if settings.ray_address is None:
        return
    if settings.devices or settings.worker_processes or settings.device_id is not None:
        raise ValueError("--ray-address excludes --devices, --device-id and --worker-processes: the actors draw")
    least, most = settings.ray_min_actors, settings.ray_max_actors
    for name, value in (("--ray-min-actors", least), ("--ray-max-actors", most)):
        if value is not None and not 1 <= value <= MOST_ACTORS:
            raise ValueError(f"{name} {value}: a number from 1 to {MOST_ACTORS} is wanted")
    if least is not None and most is not None and most < least:
        raise ValueError(f"--ray-max-actors {most} is less than --ray-min-actors {least}")
    amounts = {"--ray-gpus": settings.ray_gpus, "--ray-cpus": settings.ray_cpus}
    for what, amount in [*amounts.items(), *settings.ray_resources.items()]:
        if not isinstance(amount, int | float) or not 0 <= amount < math.inf:
            raise ValueError(f"{what} {amount}: a number from 0 on is wanted")
    if not all(isinstance(value, str) for value in settings.ray_labels.values()):
        raise ValueError("--ray-labels wants texts")


def _check_tls(settings: Settings) -> None:
    given = {spelling(name): value for name in _TLS if (value := getattr(settings, name))}
    if len(given) == 1:
        lacks = next(name for name in map(spelling, _TLS) if name not in given)
        raise ValueError(f"{next(iter(given))} needs {lacks} too: the server would answer without TLS")
    for name, value in given.items():
        if not Path(value).is_file():
            raise ValueError(f"{name} {value}: there is no such file")


def missing_places(settings: Settings) -> list[str]:
    """Flags that name folders or files that do not exist, with their values; the server starts without them."""
    names = [*(flag for flags in FOLDER_FLAGS.values() for flag in flags), "models_dir", *_FILES]
    defaults = {name: default for name, (_, default) in declared_flags(Settings).items()}
    missing = []
    for name in dict.fromkeys(names):
        value = getattr(settings, name)
        if value and value != defaults[name] and not settings.paths.place(str(value)).exists():
            missing.append(f"{spelling(name)} {value}")
    return missing


def idle_flags(settings: Settings) -> list[str]:
    """Flags that were given and do nothing beside the others, each with the reason, in words for the log."""
    on_ray = settings.ray_address is not None
    found = []
    if not on_ray:
        found += [f"{spelling(name)} has no effect without --ray-address" for name in _ray_flags_of(settings)]
    if settings.split_batches and len(settings.devices) < 2 and not on_ray:
        found.append("--split-batches has no effect with one device")
    if settings.share_batches and (reason := _shares_nothing(settings)):
        found.append(f"--share-batches has no effect with {reason}")
    return found


def _ray_flags_of(settings: Settings) -> list[str]:
    own = {item.name for item in fields(RayFlags)}
    return [name for name in settings.given() if name in own]


def _shares_nothing(settings: Settings) -> str | None:
    """Why jobs cannot be made together, if flags say so."""
    for name in ("ray_address", "worker_processes"):
        if getattr(settings, name):
            return f"{spelling(name)}: each job is made by itself"
    for name in ("lowvram", "medvram", "medvram_sdxl"):
        if getattr(settings, name):
            return f"{spelling(name)} on an accelerator: there is no memory for larger batches"
    return None
