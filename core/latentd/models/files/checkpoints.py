"""The list of checkpoints: titles, hashes, aliases and look-up as in A1111 1.8. No torch here."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from latentd.contributions import ModelFile
from latentd.errors import NotFound, near_matches
from latentd.models.files.folders import CHECKPOINT_SUFFIXES, FoundFile, find_models, is_vae_name
from latentd.models.files.hashes import HashCache, legacy_hash, short_hash
from latentd.models.files.safetensors_header import safetensors_metadata
from latentd.models.files.spelling import Spellings
from latentd.plugins.catalogue import TINYMODEL, install_hint
from latentd.regular import is_regular

log = logging.getLogger(__name__)

SOME = 5
HASH_AT_SCAN = 128 * 2**20
"""Files up to this many bytes are hashed when the folder is scanned, larger ones when they are first loaded."""


@dataclass(slots=True, eq=False)
class CheckpointInfo:
    """One checkpoint as listed. Identity is the file; the hash, and with it the title, may come later.

    ``name`` is relative to the folder it was found in, with its extension; ``config`` the sibling ``.yaml``'s path.
    """

    name: str
    filename: str
    config: str | None = None
    sha256: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    title: str = ""
    model_name: str = ""
    stem: str = ""
    hash: str | None = None
    legacy: str = ""

    def __post_init__(self) -> None:
        self.model_name = re.sub(r"[\\/]", "_", _without_suffix(self.name))
        self.stem = _without_suffix(PurePosixPath(self.name).name)
        self.legacy = legacy_hash(hashed_file(Path(self.filename)))
        self.set_sha256(self.sha256)

    @property
    def short_title(self) -> str:
        """The file's stem with its short hash, as infotexts name a refiner or a hires checkpoint."""
        return f"{self.stem} [{self.hash}]" if self.hash else self.stem

    def set_sha256(self, sha256: str | None) -> None:
        """Record the hash; the title gains its first ten digits."""
        self.sha256 = sha256
        self.hash = short_hash(sha256)
        self.title = f"{self.name} [{self.hash}]" if self.hash else self.name

    def aliases(self) -> list[str]:
        """Every text that names this checkpoint exactly."""
        names = [self.title, self.name, self.model_name, self.stem, self.legacy, f"{self.name} [{self.legacy}]"]
        if self.sha256 and self.hash:
            names += [self.hash, self.sha256, f"{self.name} [{self.hash}]", f"{self.stem} [{self.hash}]"]
        return names

    def row(self) -> dict[str, Any]:
        """The entry of ``/sdapi/v1/sd-models``."""
        return {
            "title": self.title,
            "model_name": self.model_name,
            "hash": self.hash,
            "sha256": self.sha256,
            "filename": self.filename,
            "config": self.config,
        }


class Checkpoints:
    """All checkpoints of the configured folders, in the order of ``/sd-models``.

    :param folders: searched in order; the first holder of a name wins.
    :param explicit: the file of ``--ckpt``, listed first.
    :param contributed: files of plugins, listed last, those marked ``default`` before the others.
    :param hidden: whether folders whose name begins with a dot are searched.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        hashes: HashCache,
        *,
        explicit: Path | None = None,
        contributed: Sequence[ModelFile] = (),
        hidden: Callable[[], bool] = lambda: True,
    ) -> None:
        self._folders = list(folders)
        self._hidden = hidden
        self._hashes = hashes
        self._explicit = explicit
        self._contributed = [file for file in contributed if file.kind == "checkpoint"]
        self._infos: list[CheckpointInfo] = []
        self._aliases: dict[str, CheckpointInfo] = {}
        self._spellings: Spellings[CheckpointInfo] = Spellings(())
        self.refresh()

    def refresh(self) -> None:
        """Scan again. Checkpoints that are still there keep their :class:`CheckpointInfo`."""
        before = {(info.name, info.filename): info for info in self._infos}
        infos: dict[str, CheckpointInfo] = {}
        for found in self._scan():
            if found.name not in infos:
                kept = before.get((found.name, str(found.path)))
                infos[found.name] = self._update(kept) if kept else self._describe(found)
        self._infos = list(infos.values())
        self._register()

    def __iter__(self) -> Iterator[CheckpointInfo]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def rows(self) -> list[dict[str, Any]]:
        """The body of ``/sdapi/v1/sd-models``."""
        return [info.row() for info in self._infos]

    def named(self, text: str) -> CheckpointInfo | None:
        """The checkpoint that ``text`` names: title, name, file stem, any of its hashes...

        Where none does exactly, the only one that another spelling of it names: backslashes, another case, another
        folder, a hash that is not the file's beside its name.
        """
        return self._aliases.get(text) or self._spellings.find(text, suffixes=CHECKPOINT_SUFFIXES)

    def closest(self, text: str) -> CheckpointInfo | None:
        """The checkpoint that ``text`` names, else the shortest title containing it (a ``[hash]`` left out)."""
        if not text:
            return None
        if (found := self.named(text)) is not None:
            return found
        for part in (text, re.sub(r"\s*\[.*\]\s*$", "", text)):
            matching = [info for info in self._infos if part and part in info.title]
            if matching:
                return min(matching, key=lambda info: len(info.title))
        return None

    def require(self, text: str, *, fuzzy: bool = True, detail: str | None = None) -> CheckpointInfo:
        """Like :meth:`closest` (:meth:`named` with ``fuzzy`` False).

        :param detail: what to say instead of ``model '<text>' not found``.
        :raises NotFound: nothing matches.
        """
        found = self.closest(text) if fuzzy else self.named(text)
        if found is None:
            raise NotFound(detail or f"model {text!r} not found", hint=self._near(text) or self._empty_hint())
        return found

    def _near(self, text: str) -> str | None:
        """Names like ``text``; where none is, some that are there."""
        # A hash at the end of a title would hide how close its name is.
        bare = re.sub(r"\s*\[[^\]]*\]\s*$", "", text).replace("\\", "/")
        near = near_matches(bare, [name for info in self._infos for name in (info.name, info.stem)])
        names = [info.name for info in self._infos]
        more = ", ..." if len(names) > SOME else ""
        return near or (f"there are {', '.join(names[:SOME])}{more}" if names else None)

    def default(self, configured: str | None) -> CheckpointInfo:
        """The checkpoint that option ``sd_model_checkpoint`` selects, else the first.

        :raises NotFound: there is none at all.
        """
        if configured and (found := self.closest(configured)) is not None:
            return found
        if not self._infos:
            raise NotFound("No checkpoints found.", hint=self._empty_hint())
        return self._infos[0]

    def ensure_hash(self, info: CheckpointInfo) -> None:
        """Compute the hash if it is missing (not under ``--no-hashing``), and make it findable."""
        if info.sha256 is None and (digest := self._hash(Path(info.filename))) is not None:
            info.set_sha256(digest)
            self._register()

    def _empty_hint(self) -> str | None:
        if self._infos:
            return None
        folders = ", ".join(str(folder) for folder in self._folders)
        return f"put a .safetensors file into {folders}, or {install_hint(TINYMODEL)}"

    def _scan(self) -> Iterable[FoundFile]:
        if self._explicit is not None and (is_regular(self._explicit) or self._explicit.is_dir()):
            yield FoundFile(path=self._explicit, name=self._relative(self._explicit))
        for folder in self._folders:
            found = find_models(folder, CHECKPOINT_SUFFIXES, diffusers=True, hidden=self._hidden())
            yield from (file for file in found if not is_vae_name(file.name))
        for file in sorted(self._contributed, key=lambda file: not file.default):
            yield FoundFile(path=file.path, name=file.name)

    def _relative(self, path: Path) -> str:
        for folder in self._folders:
            if path.is_relative_to(folder):
                return path.relative_to(folder).as_posix()
        return path.name

    def _describe(self, found: FoundFile) -> CheckpointInfo:
        config = found.path.with_suffix(".yaml")
        return self._update(
            CheckpointInfo(
                name=found.name,
                filename=str(found.path),
                config=str(config) if is_regular(found.path) and is_regular(config) else None,
                metadata=safetensors_metadata(found.path) if found.path.suffix == ".safetensors" else {},
            )
        )

    def _update(self, info: CheckpointInfo) -> CheckpointInfo:
        """``info`` with the hash of the file as it is now, where that is known or quick to get."""
        path = hashed_file(Path(info.filename))
        try:
            small = path.stat().st_size <= HASH_AT_SCAN
            info.set_sha256(self._hashes.sha256(path) if small else self._hashes.known(path))
        except OSError as error:
            log.warning("cannot read checkpoint %s: %s", path, error)
        return info

    def _hash(self, path: Path) -> str | None:
        return self._hashes.sha256(hashed_file(path))

    def _register(self) -> None:
        pairs = [(alias, info) for info in self._infos for alias in info.aliases()]
        self._aliases = dict(pairs)
        self._spellings = Spellings(pairs)


def hashed_file(path: Path) -> Path:
    """The file whose hash stands for the checkpoint ``path``: itself, or the UNet's weights of a diffusers folder."""
    if not path.is_dir():
        return path
    weights = sorted((path / "unet").glob("*.safetensors")) + sorted((path / "unet").glob("*.bin"))
    return weights[0] if weights else path / "model_index.json"


def _without_suffix(name: str) -> str:
    """``name`` without the extension of a model file; a dot within a folder's name is no extension."""
    path = PurePosixPath(name)
    return name[: -len(path.suffix)] if path.suffix.lower() in CHECKPOINT_SUFFIXES else name
