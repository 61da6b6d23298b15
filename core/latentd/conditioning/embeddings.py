"""Textual-inversion embeddings: the files of a folder, and where their names stand in a row of tokens.

Imports torch only when there is a file to read, so that listing an empty folder costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from latentd.errors import LatentdError
from latentd.models.files.folders import FoundFile, find_models
from latentd.models.files.hashes import HashCache
from latentd.prompts.chunks import Match, Tokenizer
from latentd.regular import open_regular

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

PICTURES = (".png", ".webp", ".jxl", ".avif")
PICKLES = (".pt", ".bin")
MAX_BYTES = 256 * 2**20
MAX_VECTORS = 4096
_UNREADABLE = (LatentdError, ValueError, KeyError, OSError, TypeError, RecursionError, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedding:
    """One embedding.

    :param vectors: name of the encoder (``clip_l``, ``clip_g``, or ``""`` if there is one only) → [V,width], float32.
    """

    name: str
    filename: str
    vectors: Mapping[str, Tensor]
    step: int | None = None
    sd_checkpoint: str | None = None
    sd_checkpoint_name: str | None = None
    sha256: str | None = None

    @property
    def width(self) -> int:
        """Total width over all encoders, which a model must have for the embedding to be used."""
        return sum(v.shape[-1] for v in self.vectors.values())

    @property
    def count(self) -> int:
        """Positions in a prompt that the embedding takes."""
        return int(list(self.vectors.values())[-1].shape[0])

    @property
    def short_hash(self) -> str | None:
        """The first twelve digits of the SHA-256, which stand in ``TI hashes``."""
        return self.sha256[:12] if self.sha256 else None

    def row(self) -> dict[str, Any]:
        """The entry of ``/sdapi/v1/embeddings``."""
        return {
            "step": self.step,
            "sd_checkpoint": self.sd_checkpoint,
            "sd_checkpoint_name": self.sd_checkpoint_name,
            "shape": self.width,
            "vectors": self.count,
        }


class EmbeddingStore:
    """All embeddings of the folders; a file is read when its folder is scanned, and again when it has changed.

    :param folders: ``--embeddings-dir`` and the folders of plugins; of equal names the first counts.
    :param carried: files that are part of packages; they come last.
    """

    def __init__(
        self, folders: Sequence[Path], hashes: HashCache | None = None, *, carried: Sequence[Path] = ()
    ) -> None:
        self._folders = list(folders)
        self._carried = [FoundFile(path=path, name=path.name) for path in carried]
        self._hashes = hashes
        self._read: dict[Path, tuple[tuple[int, int], Embedding | None]] = {}
        self._embeddings: dict[str, Embedding] = {}
        self.problems: dict[str, str] = {}
        self.refresh()

    def refresh(self) -> None:
        """Scan the folders again. Files that cannot be read are left out; ``problems`` has the reasons by file name."""
        found: dict[str, Embedding] = {}
        self.problems = {}
        endings = (*PICTURES, *PICKLES, ".safetensors")
        inside = [file for folder in self._folders for file in find_models(folder, endings)]
        for file in (*inside, *self._carried):
            embedding = self._load(file)
            if embedding is not None:
                found.setdefault(embedding.name, embedding)
        self._embeddings = dict(sorted(found.items(), key=lambda item: item[0].lower()))

    def all(self) -> dict[str, Embedding]:
        """Every embedding by name."""
        return dict(self._embeddings)

    def usable(self, width: int | None) -> tuple[dict[str, Embedding], dict[str, Embedding]]:
        """Embeddings by name: those for models of total width ``width`` (None: any), and the others."""
        known = self.all()
        fitting = {name: e for name, e in known.items() if width is None or e.width == width}
        return fitting, {name: e for name, e in known.items() if name not in fitting}

    def rows(self, width: int | None) -> dict[str, dict[str, dict[str, Any]]]:
        """The body of ``/sdapi/v1/embeddings``.

        :param width: total width of the loaded model's text encoders; None if no model is loaded.
        """
        loaded, skipped = self.usable(width)
        return {
            "loaded": {name: e.row() for name, e in loaded.items()},
            "skipped": {name: e.row() for name, e in skipped.items()},
        }

    def matcher(self, tokenizer: Tokenizer, width: int) -> EmbeddingIndex:
        """An index that finds the names of embeddings of this width in rows of ``tokenizer``'s ids."""
        return EmbeddingIndex(self.usable(width)[0], tokenizer)

    def _load(self, file: FoundFile) -> Embedding | None:
        path = file.path
        try:
            status = path.stat()
            stamp = (status.st_size, status.st_mtime_ns)
            if (known := self._read.get(path)) is not None and known[0] == stamp:
                return known[1]
            embedding = None
            if 0 < status.st_size <= MAX_BYTES:
                embedding = read_embedding(path, self._hashes.sha256(path) if self._hashes else None)
            self._read[path] = (stamp, embedding)
            return embedding
        except _UNREADABLE as error:
            self.problems[file.name] = str(error)
            log.warning("embedding %s is left out: %s", file.name, error)
            return None


class EmbeddingIndex:
    """Embeddings by the token ids of their names. Satisfies :class:`latentd.prompts.chunks.EmbeddingMatcher`."""

    def __init__(self, embeddings: Mapping[str, Embedding], tokenizer: Tokenizer) -> None:
        self.embeddings = embeddings
        self._by_first: dict[int, list[tuple[list[int], Embedding]]] = {}
        for embedding in embeddings.values():
            ids = list(tokenizer.encode(embedding.name))
            if ids:
                self._by_first.setdefault(ids[0], []).append((ids, embedding))
        for candidates in self._by_first.values():
            candidates.sort(key=lambda entry: len(entry[0]), reverse=True)

    def find(self, ids: Sequence[int], offset: int) -> Match | None:
        """The embedding whose name's tokens stand at ``offset`` of ``ids``, the longest name first."""
        for name_ids, embedding in self._by_first.get(ids[offset], ()):
            if list(ids[offset : offset + len(name_ids)]) == name_ids:
                return Match(embedding.name, len(name_ids), embedding.count)
        return None


def read_embedding(path: Path, sha256: str | None = None) -> Embedding | None:
    """The embedding in ``path``; None for a picture without one. It has the file's name, unless a picture names it.

    :raises LatentdError: the file is damaged or refused by the unpickler.
    :raises ValueError: it holds no embedding of a known form.
    """
    from latentd.conditioning.pixel_data import embedding_in_picture
    from latentd.models.files.state_dict import open_state_dict
    from latentd.models.files.unpickle import load_pickle

    name, suffix = path.stem, path.suffix.lower()
    if suffix in PICTURES:
        if path.stem.lower().endswith(".preview"):
            return None
        with open_regular(path) as file, Image.open(file) as image:
            data = embedding_in_picture(image)
        if data is None:
            return None
        name = str(data.get("name", name))
    elif suffix == ".safetensors":
        weights = open_state_dict(path)
        data = {key: weights[key] for key in weights}
    else:
        data = load_pickle(path, max_bytes=MAX_BYTES)
    step = data.get("step")
    return Embedding(
        name=name,
        filename=str(path),
        vectors=embedding_vectors(data),
        step=step if isinstance(step, int) else None,
        sd_checkpoint=_text(data.get("sd_checkpoint")),
        sd_checkpoint_name=_text(data.get("sd_checkpoint_name")),
        sha256=sha256,
    )


def embedding_vectors(data: Mapping[str, Any]) -> dict[str, Tensor]:
    """The vectors in a file's dictionary: one ``string_to_param``, ``clip_l`` with ``clip_g``, or a single tensor.

    :raises ValueError: it is none of the three.
    """
    from torch import Tensor

    if "string_to_param" in data:
        params = data["string_to_param"]
        params = getattr(params, "_parameters", None) or params
        found = [value for _, value in params.items()]
        if len(found) != 1:
            raise ValueError("the file holds more than one embedding")
        return {"": _matrix(found[0])}
    if "clip_g" in data and "clip_l" in data:
        return {"clip_l": _matrix(data["clip_l"]), "clip_g": _matrix(data["clip_g"])}
    tensors = [value for value in data.values() if isinstance(value, Tensor)]
    if len(tensors) != 1:
        raise ValueError("the file is not a textual-inversion embedding")
    return {"": _matrix(tensors[0])}


def _matrix(value: Any) -> Tensor:
    import torch

    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        raise ValueError("the embedding holds no vectors")
    tensor = value.detach().to(torch.float32, copy=True)
    tensor = tensor[None] if tensor.ndim == 1 else tensor
    if tensor.ndim != 2 or not 0 < tensor.shape[0] <= MAX_VECTORS or tensor.shape[1] == 0:
        raise ValueError(f"an embedding cannot have the shape {tuple(tensor.shape)}")
    if not bool(tensor.isfinite().all()):
        raise ValueError("the embedding holds vectors that are no number (NaN or infinite)")
    return tensor


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
