"""Weight files in pickle form: no code of the file's choosing ever runs, and no parser of them in this process.

A process of its own (:mod:`latentd.models.files.pickles`) follows each pickle, reads it with stand-ins for torch's
objects, and writes it as safetensors into a folder of conversions, from which tensors are mapped then and from then on.
Where nothing can be written (no folder is given, the file is larger than the bound, the disk is full or read-only), the
process tells where each tensor lies, and the weight file itself is mapped. No torch here.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from latentd.errors import ModelLoadError
from latentd.models.files.file_kinds import unreadable
from latentd.models.files.pickles.converted import ConvertedFiles
from latentd.models.files.pickles.frames import Identity, identity_of
from latentd.models.files.pickles.reader import PickleReader, ReaderFailed
from latentd.models.files.pickles.rebuild import Described, TensorPlace, converted, described, rebuild
from latentd.models.files.pickles.values import PickleDict, PickleValue
from latentd.regular import NotRegular, open_regular
from latentd.types import JsonValue

log = logging.getLogger(__name__)

T = TypeVar("T")
DEFAULT_MAX_BYTES = 64 * 2**30
_NEEDLESS = "no weight file has need of that"


@dataclass(frozen=True, slots=True)
class OpenedPickle:
    """``found``: what a weight file of ``size`` bytes holds. ``file``: where the tensors' bytes lie, to be mapped."""

    file: BufferedReader
    found: Described
    size: int


class PickleFiles:
    """Opens weight files in pickle form. The process has one (:data:`pickle_files`), as it has one reader."""

    def __init__(self) -> None:
        self.reader = PickleReader()
        self._kept: ConvertedFiles | None = None

    def keep_in(self, folder: Path, most: int) -> None:
        """Keep conversions in ``folder`` from now on.

        :param most: bytes of all of them together; 0 keeps none.
        """
        self._kept = ConvertedFiles(folder, most) if most > 0 else None

    @contextlib.contextmanager
    def opened(self, path: Path, max_bytes: int, *, convert: bool = True) -> Iterator[OpenedPickle]:
        """What the file holds, and the file to map.

        :param convert: False for a look only: nothing is written.
        :raises ModelLoadError: the file is missing, too large, damaged or refused.
        """
        with _source(path, max_bytes) as source:
            identity = identity_of(source)
            kept = self._find(path, identity)
            told = None if kept else self._read(path, identity, convert=convert)
            kept = kept or self._find(path, identity)
            if kept is None:
                told = told or self._read(path, identity, convert=False) or {}
                yield OpenedPickle(source, _valid(path, described, told), identity.size)
                if identity_of(source) != identity:
                    raise ModelLoadError(f"{path.name} was changed while it was read")
                return
            with kept.file:
                yield kept

    def _find(self, path: Path, identity: Identity) -> OpenedPickle | None:
        """The conversion that is kept of this file, if there is one and it is sound."""
        kept = self._kept
        file = kept.find(path, identity) if kept else None
        if kept is None or file is None:
            return None
        try:
            return OpenedPickle(file, converted(file, path), identity.size)
        except (ModelLoadError, ValueError, OSError):
            file.close()
            kept.drop(path, identity)
            return None

    def _read(self, path: Path, identity: Identity, *, convert: bool) -> dict[str, JsonValue] | None:
        """The description of the file; None where a conversion is kept now.

        :raises ModelLoadError: the file is damaged or refused.
        """
        kept = self._kept if convert else None
        scratch = kept.scratch(identity.size) if kept else None
        if kept is None or scratch is None:
            return dict(self._asked(path, identity, None)["description"])
        try:
            answer = self._asked(path, identity, scratch)
            if answer["written"]:
                kept.keep(scratch, path, identity)
                return None
        finally:
            kept.discard(scratch)
        log.info("%s is read from where it lies: its conversion could not be written", path.name)
        return dict(answer["description"])

    def _asked(self, path: Path, identity: Identity, into: Path | None) -> dict[str, JsonValue]:
        """The reader's answer about a file that it found as it is.

        :raises ModelLoadError: it refused the file, or ended over it.
        """
        most = self._kept.most if self._kept else 0
        try:
            answer = self.reader.read(path, size=identity.size, into=into, most=most)
        except ReaderFailed as error:
            log.warning("%s: %s", path.name, error)
            raise ModelLoadError(
                f"{path.name} cannot be read as a weight file: {error}", hint="the file is damaged, or made to do harm"
            ) from error
        if "refused" in answer:
            words = str(answer["refused"])
            found = unreadable(path, "cannot be read as a weight file", words)
            found.hint = found.hint or (None if words.startswith("damaged") else _NEEDLESS)
            raise found
        if answer.get("identity") != identity.as_list():
            raise ModelLoadError(f"{path.name} was changed while it was read")
        return answer


#: The one of this process.
pickle_files = PickleFiles()


def load_pickle(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> PickleDict:
    """The dictionary that ``path`` holds; tensors lie on the CPU, mapped from a file.

    Beside tensors there are plain Python's values and numpy's numbers and arrays; torch's sizes are tuples, its devices
    and types the texts of their names, and a parameter is a tensor. A whole module is a dictionary of its attributes,
    with the name of its class under ``__class__``; a path is a text.

    :param max_bytes: the largest file that is opened.
    :raises ModelLoadError: the file is damaged, too large, not a dictionary, or mentions a type off the list.
    """
    from latentd.models.files.pickles.tensors import MappedTensors

    def read(opened: OpenedPickle) -> PickleValue:
        tensors = MappedTensors(opened.file, opened.found.storages)
        return rebuild(opened.found, opened.size, tensors.tensor, tensors.data)

    with pickle_files.opened(path, max_bytes) as opened:
        return _dictionary(path, _valid(path, read, opened))


def describe_pickle(
    path: Path, tensor: Callable[[TensorPlace], object], *, max_bytes: int = DEFAULT_MAX_BYTES
) -> PickleDict:
    """As :func:`load_pickle` without reading a weight: ``tensor`` gives what stands for one; arrays are None.

    :raises ModelLoadError: as there.
    """
    with pickle_files.opened(path, max_bytes, convert=False) as opened:
        return _dictionary(path, _valid(path, rebuild, opened.found, opened.size, tensor))


def _source(path: Path, max_bytes: int) -> BufferedReader:
    """The file, opened.

    :raises ModelLoadError: it is missing, no regular file, may not be read, or is larger than ``max_bytes``.
    """
    try:
        file = open_regular(path)
    except (OSError, ValueError) as error:
        words = str(error) if isinstance(error, NotRegular) else f"{path.name} cannot be read: {_reason(error)}"
        raise ModelLoadError(words) from error
    if identity_of(file).size > max_bytes:
        file.close()
        raise ModelLoadError(f"{path.name} is larger than {max_bytes} bytes")
    return file


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _valid(path: Path, make: Callable[..., T], *given: PickleValue) -> T:
    """What ``make`` gives.

    :raises ModelLoadError: it found a damaged description, or a file that cannot be mapped.
    """
    try:
        return make(*given)
    except (ValueError, OSError) as error:
        raise unreadable(path, "cannot be read as a weight file", error) from error


def _dictionary(path: Path, value: object) -> PickleDict:
    if not isinstance(value, dict):
        raise ModelLoadError(f"{path.name} holds a {type(value).__name__} where a dictionary of tensors was expected")
    return value
