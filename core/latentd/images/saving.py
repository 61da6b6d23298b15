"""Writing pictures to numbered files (rules: a1111-saving)."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from latentd.atomic import write_atomically
from latentd.errors import InvalidRequest
from latentd.images.codecs import encode_image, fits

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

_TRIES = 500
_WINDOWS = os.name == "nt"
_LONGEST_NAME = 240
_HALF = re.compile(r"[\ud800-\udfff]")
"""Bytes of a file name without its ending; file systems take 255 at most."""

_claiming = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOptions:
    """How files are written; field names are those of A1111's options.

    A picture of more than ``img_downscale_threshold`` MiB or ``target_side_length`` pixels gets an extra ``.jpg``.
    """

    jpeg_quality: int = 80
    webp_lossless: bool = False
    save_images_add_number: bool = True
    save_images_replace_action: str = "Replace"
    save_txt: bool = False
    enable_pnginfo: bool = True
    export_for_4chan: bool = True
    img_downscale_threshold: float = 4.0
    target_side_length: int = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedFiles:
    """Where a picture was written, and the text file and the smaller JPEG beside it, if any."""

    image: Path
    text: Path | None = None
    extra: Path | None = None


def save_image(
    image: Image.Image,
    folder: Path,
    *,
    name: str = "",
    subfolder: str = "",
    basename: str = "",
    suffix: str = "",
    format: str = "png",
    info: Mapping[str, str] | None = None,
    forced_name: str | None = None,
    options: SaveOptions | None = None,
) -> SavedFiles:
    """Write one picture under ``folder``, which is created if missing, and return its files; none is ever half written.

    :param name: the expanded file-name pattern, without number and ending; may hold ``/`` for folders of its own.
    :param subfolder: the expanded folder pattern.
    :param basename: a text before the number, as ``grid`` in ``grid-0000``.
    :param suffix: appended to the name, as ``-mask``.
    :param info: text entries of the file; ``parameters`` is the infotext and the text file's content.
    :param forced_name: the whole name; no number is put before it.
    :raises InvalidRequest: a name that leaves the folder.
    """
    options = options or SaveOptions()
    if not fits(image.size, format):
        format = "png"
    info = dict(info or {}) if options.enable_pnginfo else {}
    data = encode_image(image, format=format, quality=options.jpeg_quality, info=info, lossless=options.webp_lossless)
    target = inside(folder, subfolder)
    target.mkdir(parents=True, exist_ok=True)
    with _claimed(target):
        stem = _stem(target, name, basename, suffix, format, forced_name, options)
        path = _with_ending(stem, f".{format}")
        write_atomically(path, data)
    extra = _export(image, path, len(data), info, options) if options.export_for_4chan else None
    text = None
    if options.save_txt and info.get("parameters"):
        text = _with_ending(stem, ".txt")
        write_atomically(text, f"{info['parameters']}\n".encode())
    return SavedFiles(image=path, text=text, extra=extra)


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Only one thread of one process at a time chooses a name in ``folder`` and writes the file."""
    with _claiming, ExitStack() as stack:
        if fcntl is not None:
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def inside(folder: Path, relative: str) -> Path:
    """``folder / relative``.

    Backslashes and colons are ordinary characters of names, except on Windows, where they could lead elsewhere.

    :raises InvalidRequest: an absolute path, one with ``..``, or one that leads out of the folder through a link.
    """
    parts = PurePosixPath(relative.replace("\\", "/") if _WINDOWS else relative)
    path = folder.joinpath(*map(_short, parts.parts))
    safe = not parts.is_absolute() and ".." not in parts.parts and "\0" not in relative
    safe = safe and not (_WINDOWS and ":" in relative)
    if not safe or not path.resolve().is_relative_to(folder.resolve()):
        raise InvalidRequest(f"file name {relative!r} leaves the output folder")
    return path


def next_number(folder: Path, basename: str = "") -> int:
    """One more than the largest number that begins a file name in ``folder``, after ``basename-`` if given; else 0."""
    prefix = f"{basename}-" if basename else ""
    names = (entry.name.removeprefix(prefix) for entry in folder.iterdir() if entry.name.startswith(prefix))
    numbers = (name.split(".")[0].split("-")[0] for name in names)
    return max((int(n) for n in numbers if n.isascii() and n.isdigit() and len(n) < 10), default=-1) + 1


def _stem(
    folder: Path, name: str, basename: str, suffix: str, format: str, forced: str | None, options: SaveOptions
) -> Path:
    """The picture's path without its ending."""
    if forced is not None:
        return _unused(inside(folder, forced), format, options)
    head, _, tail = name.rpartition("/")
    if head:
        folder = inside(folder, head)
        folder.mkdir(parents=True, exist_ok=True)
    if not options.save_images_add_number and tail:
        return _unused(inside(folder, _cut(tail + suffix)), format, options)
    decoration = f"-{tail}{suffix}" if tail else suffix
    first = next_number(folder, basename)
    for number in range(first, first + _TRIES):
        counted = f"{basename}-{number:04}" if basename else f"{number:05}"
        stem = inside(folder, _cut(counted + decoration))
        if not _with_ending(stem, f".{format}").exists():
            return stem
    raise InvalidRequest(f"no free file number in {_TRIES} tries from {first}")


def _unused(stem: Path, format: str, options: SaveOptions) -> Path:
    if options.save_images_replace_action == "Replace" or not _with_ending(stem, f".{format}").exists():
        return stem
    numbered = (stem.with_name(f"{stem.name}-{n}") for n in range(1, 1 << 20))
    return next(other for other in numbered if not _with_ending(other, f".{format}").exists())


def _cut(name: str) -> str:
    """``name`` cut to a length that file systems accept, with ``_`` for each half of a character that stands alone."""
    return _HALF.sub("_", name).encode()[:_LONGEST_NAME].decode(errors="ignore").rstrip(" .")


def _short(name: str) -> str:
    """``name``, through :func:`_cut` where no file system accepts it as it is."""
    is_fine = len(name.encode(errors="surrogatepass")) <= _LONGEST_NAME and not _HALF.search(name)
    return name if is_fine else _cut(name)


def _with_ending(stem: Path, ending: str) -> Path:
    """``stem`` with ``ending`` appended; ``Path.with_suffix`` would cut a stem with dots in it."""
    return stem.with_name(stem.name + ending)


def _export(image: Image.Image, path: Path, size: int, info: Mapping[str, str], options: SaveOptions) -> Path | None:
    """A smaller ``.jpg`` beside a picture with too many bytes or pixels; None if the picture is within the bounds."""
    longest = max(image.size)
    oversize = longest > options.target_side_length
    if not oversize and size <= options.img_downscale_threshold * 1024 * 1024:
        return None
    if oversize:
        ratio = options.target_side_length / longest
        image = image.resize([max(round(side * ratio), 1) for side in image.size], Image.Resampling.LANCZOS)
    extra = path.with_suffix(".jpg")
    if extra != path or oversize:
        write_atomically(extra, encode_image(image, format="jpg", quality=options.jpeg_quality, info=info))
    return extra
