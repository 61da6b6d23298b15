"""Network files on disk: what is there, under which names, and what they hold. No torch until one is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentd.errors import ModelLoadError
from latentd.models.folders import find_models

if TYPE_CHECKING:
    from torch import Tensor

ENDINGS = (".safetensors", ".pt", ".ckpt")

_LONGEST_HEADER = 64 << 20
_CHUNK = 1 << 20
_EMBEDDING_PREFIX = "bundle_emb"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOnDisk:
    """A network file. ``name`` is its stem, ``alias`` the name its training gave it (else the stem)."""

    name: str
    alias: str
    path: Path
    metadata: Mapping[str, Any]
    stamp: tuple[int, int]

    def digest(self) -> str:
        """The hash that infotexts shorten: the metadata's own, else of the file (:func:`network_digest`)."""
        given = self.metadata.get("sshs_model_hash")
        return given if isinstance(given, str) and given else network_digest(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkContents:
    """What a file holds: per module name the tensors by weight name, and embeddings it brings along, by name."""

    modules: Mapping[str, Mapping[str, Tensor]]
    embeddings: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        groups = (*self.modules.values(), *self.embeddings.values())
        return sum(tensor.nbytes for group in groups for tensor in group.values())


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file.

    :raises ModelLoadError: no such header, or one of unreasonable size.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_LONGEST_HEADER, path.stat().st_size):
                raise ModelLoadError(f"{path.name} is no safetensors file: its header's length is {length}")
            header = json.loads(file.read(length))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"cannot read the header of {path.name}: {error}") from error
    if not isinstance(header, dict):
        raise ModelLoadError(f"{path.name} is no safetensors file: its header is no object")
    return header


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a network file, texts that hold JSON objects parsed; empty for other kinds or when damaged."""
    if path.suffix.lower() != ".safetensors":
        return {}
    try:
        entries = read_header(path).get("__metadata__")
    except ModelLoadError:
        return {}
    return {key: _parsed(value) for key, value in entries.items()} if isinstance(entries, dict) else {}


def _parsed(value: object) -> object:
    if isinstance(value, str) and value.startswith("{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def network_digest(path: Path) -> str:
    """sha256 in hex: of a safetensors file without its header, so that edited metadata keep it; else of the whole."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if path.suffix.lower() == ".safetensors":
            file.seek(8 + int.from_bytes(file.read(8), "little"))
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class NetworkLibrary:
    """The network files of some folders, found by the names that prompts use.

    :param folders: searched with all below them; missing ones are skipped.
    :param carried: files that packages carry; one of the same name in a folder is taken instead.
    :param hidden: whether folders whose name begins with a dot are searched.
    """

    def __init__(
        self, folders: Sequence[Path], *, carried: Sequence[Path] = (), hidden: Callable[[], bool] = lambda: True
    ) -> None:
        self._folders = tuple(folders)
        self._carried = tuple(carried)
        self._hidden = hidden
        self._digests: dict[tuple[Path, tuple[int, int]], str] = {}
        self._by_name: dict[str, NetworkOnDisk] = {}
        self._by_alias: dict[str, NetworkOnDisk] = {}
        self._ambiguous: set[str] = set()
        self.refresh()

    def refresh(self) -> None:
        """Look at the folders again; an unchanged file is not read again."""
        known = {(net.path, net.stamp): net for net in self._by_name.values()}
        by_name: dict[str, NetworkOnDisk] = {}
        by_alias: dict[str, NetworkOnDisk] = {}
        ambiguous = {"none"}
        for path in (*self._carried, *_candidates(self._folders, hidden=self._hidden())):
            stat = path.stat()
            stamp = (stat.st_size, stat.st_mtime_ns)
            net = known.get((path, stamp)) or _describe(path, stamp)
            if net.alias in by_alias:
                ambiguous.add(net.alias.lower())
            by_name[net.name] = by_alias[net.name] = by_alias[net.alias] = net
        self._by_name, self._by_alias, self._ambiguous = by_name, by_alias, ambiguous

    def list(self) -> list[NetworkOnDisk]:
        """All files, sorted by name without regard to case."""
        return sorted(self._by_name.values(), key=lambda net: net.name.lower())

    def find(self, name: str) -> NetworkOnDisk | None:
        """The file a tag means: by alias or stem; by stem only where an alias is shared, or is ``none``."""
        return (self._by_name if name.lower() in self._ambiguous else self._by_alias).get(name)

    def preferred_name(self, net: NetworkOnDisk, *, by_file_name: bool = False) -> str:
        """The name to show (option ``lora_preferred_name``): the alias unless it is ambiguous."""
        return net.name if by_file_name or net.alias.lower() in self._ambiguous else net.alias

    def short_hash(self, net: NetworkOnDisk) -> str:
        """The first 12 digits of the file's digest, computed once a file."""
        key = (net.path, net.stamp)
        if key not in self._digests:
            self._digests[key] = net.digest()
        return self._digests[key][:12]


def _candidates(folders: Iterable[Path], *, hidden: bool) -> list[Path]:
    found: dict[Path, None] = {}
    for folder in folders:
        inside = [file.path for file in find_models(folder, ENDINGS, hidden=hidden) if file.path.is_file()]
        found.update(dict.fromkeys(sorted(inside, key=lambda p: str(p).lower())))
    return list(found)


def _describe(path: Path, stamp: tuple[int, int]) -> NetworkOnDisk:
    metadata = read_metadata(path)
    alias = metadata.get("ss_output_name")
    return NetworkOnDisk(
        name=path.stem, alias=alias if isinstance(alias, str) and alias else path.stem,
        path=path, metadata=metadata, stamp=stamp,
    )  # fmt: skip


def read_network(path: Path) -> NetworkContents:
    """What the file holds, on the CPU; safetensors are mapped, pickles go through the restricted unpickler.

    :raises ModelLoadError: damaged, or refused by the unpickler.
    """
    from latentd.networks.names import split_key

    modules: dict[str, dict[str, Tensor]] = {}
    embeddings: dict[str, dict[str, Tensor]] = {}
    for key, tensor in _tensors(path).items():
        if key.startswith(f"{_EMBEDDING_PREFIX}."):
            name, _, vector = key.removeprefix(f"{_EMBEDDING_PREFIX}.").partition(".")
            embeddings.setdefault(name, {})[vector] = tensor
            continue
        module, weight = split_key(key)
        modules.setdefault(module, {})[weight] = tensor
    return NetworkContents(modules=modules, embeddings=embeddings)


def _tensors(path: Path) -> dict[str, Tensor]:
    from torch import Tensor

    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelLoadError(f"cannot read {path.name}: {error}") from error
    from latentd.models.unpickle import load_pickle

    loaded: dict[str, Any] = load_pickle(path)
    inner = loaded.get("state_dict", loaded)
    return {key: value for key, value in inner.items() if isinstance(key, str) and isinstance(value, Tensor)}
