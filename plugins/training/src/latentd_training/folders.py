"""Where training reads and writes: only inside the folders that the operator allows."""

from __future__ import annotations

from pathlib import Path

from latentd.api import InvalidRequest, Services

DEFAULT = ("train",)
LONGEST, LONGEST_PART = 1024, 255
"""Bytes of a folder's path and of its name: what file systems allow, and room for what is written there."""


def training_folders(services: Services) -> list[Path]:
    """The folders of ``--training-dir``, absolute, links followed; by default the data folder's ``train``."""
    return [services.paths.resolve(text).resolve() for text in services.settings.training_dir or DEFAULT]


def check_inside(services: Services, path: Path) -> None:
    """Refuse a file that is reached through a link out of the folders for training.

    :raises InvalidRequest: it lies outside, or its links lead nowhere.
    """
    if not _is_inside(path, training_folders(services)):
        raise InvalidRequest(f"{path.name} is a link out of the folders for training")


def folder_inside(services: Services, text: str, field: str) -> Path:
    """The folder that a client means by ``text``: absolute, or relative to the data folder or a folder for training.

    Of several that it may mean the first that exists counts, else the first.

    :param field: the request's field, for messages.
    :raises InvalidRequest: it means none inside a folder for training.
    """
    too_long = len(text.encode()) > LONGEST or any(len(part.encode()) > LONGEST_PART for part in text.split("/"))
    if not text.strip() or "\0" in text or too_long:
        raise InvalidRequest(f"{field}: name a folder", hint="one inside --training-dir, by default train")
    roots = training_folders(services)
    found = [path for path in _meant(services, roots, text) if _is_inside(path, roots)]
    if not found:
        raise InvalidRequest(
            f"{field}: {text!r} lies outside the folders for training",
            hint="the server's operator allows folders with --training-dir; by default it is the data folder's train",
        )
    return next((path for path in found if path.is_dir()), found[0])


def existing_folder(services: Services, text: str, field: str) -> Path:
    """As :func:`folder_inside`, and it is there and holds something.

    :raises InvalidRequest: it is not, or does not.
    """
    folder = folder_inside(services, text, field)
    try:
        empty = not any(folder.iterdir())
    except OSError:
        raise InvalidRequest(f"{field}: Dataset directory doesn't exist: {text!r}") from None
    if empty:
        raise InvalidRequest(f"{field}: Dataset directory is empty: {text!r}")
    return folder


def _is_inside(path: Path, roots: list[Path]) -> bool:
    try:
        real = path.resolve()
    except (RuntimeError, OSError):  # a loop of links
        return False
    return any(real.is_relative_to(root) for root in roots)


def _meant(services: Services, roots: list[Path], text: str) -> list[Path]:
    try:
        places = [services.paths.resolve(text), *(root / text for root in roots)]
        return [place.resolve() for place in places]
    except (RuntimeError, OSError, ValueError):  # no such user's home; a loop of links; a name that is too long
        return []
