"""torch's two forms of weight files: the places of the pickle and of each storage's bytes in them."""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass
from io import BufferedReader
from typing import IO

from latentd.models.files.pickles.stand_ins import StandInUnpickler, Storage
from latentd.models.files.pickles.values import PickleValue
from latentd.models.files.pickles.walk import MAX_STRING, PickleRefused, walk_pickle

#: A file of torch before 1.6: magic number, protocol, system, the object, the keys of its storages; then raw bytes.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_LOCAL_HEADER = 30
_BIG = "it was written on a machine of big-endian numbers"


@dataclass(frozen=True, slots=True)
class Contents:
    """The content of a file: its object, made of stand-ins, and the place of the bytes of each storage it names."""

    value: object
    storages: dict[str, Storage]
    places: dict[str, int]


def read_contents(file: BufferedReader) -> Contents:
    """The content of a weight file in pickle form; the bytes of its tensors are not read.

    :raises PickleRefused: it is no such file, is damaged, or has something that weight files do not need.
    """
    size = file.seek(0, 2)
    is_archive = zipfile.is_zipfile(file)
    file.seek(0)
    contents = _from_archive(file, size) if is_archive else _from_legacy(file, size)
    for key, storage in contents.storages.items():
        if contents.places[key] + storage.nbytes > size:
            raise PickleRefused("a storage beyond the end of the file; it is cut off")
    if sum(storage.nbytes for storage in contents.storages.values()) > size:
        raise PickleRefused("storages that together are larger than the file")
    return contents


def _from_archive(file: BufferedReader, size: int) -> Contents:
    records = _records(file)
    if "constants.pkl" in records:
        raise PickleRefused("it is a program (TorchScript), not weights")
    if "data.pkl" not in records:
        raise PickleRefused("damaged: an archive without data.pkl")
    if "byteorder" in records and _read(file, records["byteorder"], 16).strip().lower() == b"big":
        raise PickleRefused(_BIG)
    reader = _walked(io.BytesIO(_read(file, records["data.pkl"], 2 * MAX_STRING)), size)
    value = reader.load()
    places = {}
    for key, storage in reader.storages.items():
        record = records.get(f"data/{key}".lower())
        if record is None or record.file_size < storage.nbytes:
            raise PickleRefused("damaged: a storage that the archive does not hold whole")
        places[key] = _start(file, record)
    return Contents(value, reader.storages, places)


def _records(file: BufferedReader) -> dict[str, zipfile.ZipInfo]:
    """The archive's members by their lower-case names without the folder, as torch looks them up."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OSError) as error:
        raise PickleRefused(f"damaged: {error}") from error
    records = {}
    for member in members:
        name = member.filename.partition("/")[2].lower()
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise PickleRefused("it is a compressed archive, which no tool writes as a weight file")
        if name in records:
            raise PickleRefused("an archive with two members of one name")
        records[name] = member
    return records


def _start(file: BufferedReader, member: zipfile.ZipInfo) -> int:
    """The position at which the bytes of ``member`` begin."""
    if not 0 <= member.header_offset < 2**63:
        raise PickleRefused("damaged: a member of the archive that lies nowhere")
    file.seek(member.header_offset)
    head = file.read(_LOCAL_HEADER)
    if len(head) < _LOCAL_HEADER or not head.startswith(b"PK\x03\x04"):
        raise PickleRefused("damaged: a member of the archive is not where it should be")
    name, extra = struct.unpack("<HH", head[26:30])
    return int(member.header_offset + _LOCAL_HEADER + name + extra)


def _read(file: BufferedReader, member: zipfile.ZipInfo, most: int) -> bytes:
    if member.file_size > most:
        raise PickleRefused(f"{member.file_size} bytes beside its weights")
    file.seek(_start(file, member))
    return file.read(member.file_size)


def _from_legacy(file: BufferedReader, size: int) -> Contents:
    """The content of a file in the form of torch before 1.6.

    :raises PickleRefused: the file has neither form.
    """
    if _walked(file, size).load() != _MAGIC:
        raise PickleRefused("damaged: it does not begin as a weight file does")
    if _walked(file, size).load() != _PROTOCOL:
        raise PickleRefused("it is of an unknown version")
    system = _walked(file, size).load()
    if isinstance(system, dict) and not system.get("little_endian", True):
        raise PickleRefused(_BIG)
    reader = _walked(file, size)
    value = reader.load()
    keys = _walked(file, size).load()
    return Contents(value, reader.storages, _legacy_places(file, keys, reader.storages))


def _legacy_places(file: BufferedReader, keys: PickleValue, storages: dict[str, Storage]) -> dict[str, int]:
    """The places of the storages: behind the pickles, in the order of ``keys``, each after its element count."""
    places: dict[str, int] = {}
    for key in keys if isinstance(keys, list) else ():
        storage = storages.get(str(key))
        count = file.read(8)
        if storage is None or str(key) in places or int.from_bytes(count, "little") != storage.total:
            raise PickleRefused("damaged: its storages are not those that its tensors name")
        places[str(key)] = file.tell()
        file.seek(storage.nbytes, 1)
    if places.keys() != storages.keys():
        raise PickleRefused("damaged: it lacks storages that its tensors name")
    return places


def _walked(file: IO[bytes], size: int) -> StandInUnpickler:
    """The unpickler of the next pickle in ``file``, after a check of the whole pickle."""
    start = file.tell()
    walk_pickle(file, size=size)
    file.seek(start)
    return StandInUnpickler(file)
