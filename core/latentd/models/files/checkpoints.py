"""The list of checkpoints: titles, hashes, aliases and look-up as in AUTOMATIC1111 1.8. No torch is imported here."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from latentd.contributions import ModelFile
from latentd.errors import NotFound, near_matches
from latentd.models.files.folders import CHECKPOINT_SUFFIXES, FoundFile, find_models, is_vae_name
from latentd.models.files.hashes import HashCache, legacy_hash, short_hash
from latentd.models.files.safetensors_header import safetensors_metadata
from latentd.models.files.spelling import Spellings
from latentd.plugins.catalogue import TINYMODEL, install_hint
from latentd.regular import is_regular
from latentd.types import JsonValue

log = logging.getLogger(__name__)

SOME = 5
HASH_AT_SCAN = 128 * 2**20
"""Files up to this many bytes are hashed when the folder is scanned, larger ones when they are first loaded."""


@dataclass(slots=True, eq=False)
class CheckpointInfo:
    """One checkpoint of the list. It is identified by its file; its hash, and so its title, may be set later.

    ``name`` is relative to the folder in which it was found, with its extension; ``config`` is the path of the
    ``.yaml`` beside it.
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
        """Set the hash, whose first ten digits become part of the title."""
        self.sha256 = sha256
        self.hash = short_hash(sha256)
        self.title = f"{self.name} [{self.hash}]" if self.hash else self.name

    def aliases(self) -> list[str]:
        """Every text that names this checkpoint exactly."""
        names = [self.title, self.name, self.model_name, self.stem, self.legacy, f"{self.name} [{self.legacy}]"]
        if self.sha256 and self.hash:
            names += [self.hash, self.sha256, f"{self.name} [{self.hash}]", f"{self.stem} [{self.hash}]"]
        return names

    def row(self) -> dict[str, JsonValue]:
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

    :param folders: searched in order; of equal names the first counts.
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
        """Scan the folders again. Checkpoints that still exist keep their :class:`CheckpointInfo`."""
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

    def rows(self) -> list[dict[str, JsonValue]]:
        """The body of ``/sdapi/v1/sd-models``."""
        return [info.row() for info in self._infos]

    def named(self, text: str) -> CheckpointInfo | None:
        """The checkpoint that ``text`` names: title, name, file stem, any of its hashes...

        If none fits exactly, it is the only one that fits with another spelling: backslashes, another case, another
        folder, or a wrong hash beside its name.
        """
        return self._aliases.get(text) or self._spellings.find(text, suffixes=CHECKPOINT_SUFFIXES)

    def closest(self, text: str) -> CheckpointInfo | None:
        """The checkpoint that ``text`` names, else that of the shortest title that contains it (without ``[hash]``)."""
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

        :param detail: the error's message; by default ``model '<text>' not found``.
        :raises NotFound: nothing matches.
        """
        found = self.closest(text) if fuzzy else self.named(text)
        if found is None:
            raise NotFound(detail or f"model {text!r} not found", hint=self._near(text) or self._empty_hint())
        return found

    def _near(self, text: str) -> str | None:
        """A hint with names like ``text``, or else with some names."""
        # Titles are compared without the hash at their end, which would make them less similar.
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
        """Compute the hash if it is missing (not with ``--no-hashing``), and make it an alias."""
        if info.sha256 is None and (digest := self._hash(Path(info.filename))) is not None:
            info.set_sha256(digest)
            self._register()

    def learn(self, hashes: Mapping[str, str]) -> None:
        """Take over SHA-256 of files, by their paths, that another process of this server has computed."""
        unknown = [info for info in self._infos if info.sha256 is None and info.filename in hashes]
        for info in unknown:
            info.set_sha256(hashes[info.filename])
        if unknown:
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
                metadata=safetensors_metadata(found.path) if found.path.suffix.lower() == ".safetensors" else {},
            )
        )

    def _update(self, info: CheckpointInfo) -> CheckpointInfo:
        """``info`` with the hash of the present file if that is known or quickly computed."""
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
    """The file whose hash is the checkpoint's: ``path`` itself, or the UNet's weights in a folder of diffusers."""
    if not path.is_dir():
        return path
    weights = sorted((path / "unet").glob("*.safetensors")) + sorted((path / "unet").glob("*.bin"))
    return weights[0] if weights else path / "model_index.json"


def _without_suffix(name: str) -> str:
    """``name`` without the extension of a model file; other dots are part of the name."""
    path = PurePosixPath(name)
    return name[: -len(path.suffix)] if path.suffix.lower() in CHECKPOINT_SUFFIXES else name
