"""The list of separate VAE files and the choice among them (rules: a1111-checkpoint-names). No torch is imported."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from latentd.contributions import ModelFile
from latentd.errors import NotFound, near_matches
from latentd.models.files.checkpoints import CheckpointInfo
from latentd.models.files.folders import VAE_SUFFIXES, find_models, is_vae_name
from latentd.models.files.hashes import HashCache, short_hash
from latentd.models.files.spelling import Spellings
from latentd.regular import read_regular
from latentd.types import JsonValue

AUTOMATIC, NONE = "Automatic", "None"


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeInfo:
    """One VAE file; ``name`` is its file name, ``hash`` the ten digits of ``VAE hash``, known once it is loaded."""

    name: str
    filename: str
    hash: str | None = None

    def row(self) -> dict[str, JsonValue]:
        """The entry of ``/sdapi/v1/sd-vae``."""
        return {"model_name": self.name, "filename": self.filename}


class VaeFiles:
    """All VAE files: those in the VAE folders, and ``*.vae.*`` beside checkpoints.

    :param folders: ``models/VAE`` and ``--vae-dir``.
    :param beside: checkpoint folders.
    :param explicit: the file of ``--vae-path``, which takes precedence over every setting.
    :param hidden: whether folders whose name begins with a dot are searched.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        hashes: HashCache,
        *,
        beside: Sequence[Path] = (),
        explicit: Path | None = None,
        contributed: Sequence[ModelFile] = (),
        hidden: Callable[[], bool] = lambda: True,
    ) -> None:
        self._hidden = hidden
        self._folders = list(folders)
        self._beside = list(beside)
        self._hashes = hashes
        self._explicit = explicit
        self._contributed = [file for file in contributed if file.kind == "vae"]
        self._infos: dict[str, VaeInfo] = {}
        self.refresh()

    def refresh(self) -> None:
        """Scan again."""
        infos: dict[str, VaeInfo] = {}
        for name, path in self._scan():
            infos.setdefault(name, VaeInfo(name=name, filename=str(path)))
        self._infos = infos

    def __iter__(self) -> Iterator[VaeInfo]:
        return iter(self._infos.values())

    def rows(self) -> list[dict[str, JsonValue]]:
        """The body of ``/sdapi/v1/sd-vae``."""
        return [info.row() for info in self]

    def names(self) -> list[str]:
        """The choices of option ``sd_vae``."""
        return [AUTOMATIC, NONE, *self._infos]

    def require(self, name: str) -> VaeInfo:
        """The VAE with this file name or stem, else the only one that fits with another spelling.

        :raises NotFound: there is none.
        """
        found = self._infos.get(name) or next((i for i in self if Path(i.name).stem == name), None)
        found = found or Spellings((info.name, info) for info in self).find(name)
        found = found or Spellings((Path(info.name).stem, info) for info in self).find(name, suffixes=VAE_SUFFIXES)
        if found is None:
            raise NotFound(f"VAE {name!r} not found", hint=near_matches(name, self.names()))
        return found

    def resolve(
        self, checkpoint: CheckpointInfo, setting: str | None = None, *, overrides: bool = True
    ) -> VaeInfo | None:
        """The VAE to use with ``checkpoint``; None for its own.

        :param setting: option ``sd_vae``: ``Automatic``, ``None`` or a file name.
        :param overrides: option ``sd_vae_overrides_per_model_preferences``: an explicit setting takes precedence over
            the checkpoint's VAE (``vae`` in the ``.json`` beside it, or a VAE file whose name begins with its own).
        :raises NotFound: the setting names no file.
        """
        if self._explicit is not None:
            return VaeInfo(name=self._explicit.name, filename=str(self._explicit))
        automatic = (setting or AUTOMATIC).casefold() in (AUTOMATIC.casefold(), "auto")
        if not automatic and overrides:
            return self._explicit_setting(setting)
        if (preferred := _preferred(Path(checkpoint.filename))) is not None:
            return None if preferred == NONE else self.require(preferred)
        if (near := self._near(checkpoint)) is not None:
            return near
        return None if automatic else self._explicit_setting(setting)

    def short_hash(self, info: VaeInfo) -> str | None:
        """The ten digits of ``VAE hash``; computed and cached on first use, None under ``--no-hashing``."""
        return short_hash(self._hashes.sha256(Path(info.filename)))

    def _explicit_setting(self, setting: str | None) -> VaeInfo | None:
        return None if str(setting).casefold() == NONE.casefold() else self.require(str(setting))

    def _near(self, checkpoint: CheckpointInfo) -> VaeInfo | None:
        stem = Path(checkpoint.filename).stem
        return next((info for info in self if info.name.startswith(stem)), None)

    def _scan(self) -> Iterator[tuple[str, Path]]:
        for folder in self._folders:
            for found in find_models(folder, VAE_SUFFIXES, hidden=self._hidden()):
                yield found.path.name, found.path
        for folder in self._beside:
            for found in find_models(folder, VAE_SUFFIXES, hidden=self._hidden()):
                if is_vae_name(found.path.name):
                    yield found.path.name, found.path
        for file in self._contributed:
            yield file.name, file.path


def _preferred(checkpoint: Path) -> str | None:
    """The ``vae`` in the user's ``.json`` beside the checkpoint, or None."""
    try:
        path = checkpoint.with_suffix(".json")
        data = json.loads(read_regular(path, 2**20))
        found = data.get("vae")
        return found if isinstance(found, str) and found not in ("", AUTOMATIC) else None
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
