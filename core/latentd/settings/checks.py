"""Finding flags that cannot be followed, before anything is loaded."""

from __future__ import annotations

import math
import re
from pathlib import Path

from latentd.settings.flag import declared_flags
from latentd.settings.parse import spelling
from latentd.settings.paths import FOLDER_FLAGS
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
    if settings.devices or settings.worker_processes:
        raise ValueError("--ray-address excludes --devices and --worker-processes: the cluster's actors draw")
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
