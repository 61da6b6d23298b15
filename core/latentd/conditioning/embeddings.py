"""Textual-inversion embeddings: the files of a folder, and where their names stand in a row of tokens.

A scan reads headers; vectors are read when a prompt first uses them. Pictures are the exception: only decoding them
tells whether they hold an embedding. torch is imported with the first picture or vectors.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from latentd.errors import LatentdError, ModelLoadError
from latentd.models.files.folders import FoundFile, find_models
from latentd.models.files.hashes import HashCache
from latentd.prompts.chunks import Match, Tokenizer
from latentd.regular import open_regular
from latentd.types import JsonValue

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

PICTURES = (".png", ".webp", ".jxl", ".avif")
PICKLES = (".pt", ".bin")
MAX_BYTES = 256 * 2**20
MAX_VECTORS = 4096
#: What the header of a safetensors file may say of an embedding, under the names that pickles have.
_NOTES = frozenset({"step", "sd_checkpoint", "sd_checkpoint_name"})
_LONGEST_STEP = 16
#: SDXL's two parts in most files, and in those of diffusers' and Replicate's trainers.
_PAIRS = (("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1"))
_UNREADABLE = (LatentdError, ValueError, KeyError, OSError, TypeError, RecursionError, Image.DecompressionBombError)


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedding:
    """One embedding. ``shapes``: encoder (``clip_l``, ``clip_g``, or ``""`` for the only one) → (V, width).

    :param read: gives the vectors, once they are needed.
    :param digest: gives the file's sha256 in hex, None where files are not hashed.
    """

    name: str
    filename: str
    shapes: Mapping[str, tuple[int, int]]
    read: Callable[[], Mapping[str, Tensor]]
    digest: Callable[[], str | None] = lambda: None
    step: int | None = None
    sd_checkpoint: str | None = None
    sd_checkpoint_name: str | None = None

    @classmethod
    def of(cls, name: str, filename: str, vectors: Mapping[str, Tensor]) -> Embedding:
        """One of these vectors, [V, width] by encoder; gradients flow into them where they ask for that."""
        shapes = {part: (int(value.shape[0]), int(value.shape[1])) for part, value in vectors.items()}
        return cls(name=name, filename=filename, shapes=shapes, read=lambda: vectors)

    @cached_property
    def vectors(self) -> Mapping[str, Tensor]:
        """Encoder → [V, width], float32.

        :raises ModelLoadError: the file is damaged, holds what is no number, or has changed since it was looked at.
        """
        try:
            found = self.read()
        except _UNREADABLE as error:
            raise ModelLoadError(f"embedding {self.name!r} cannot be used: {error}") from error
        if {part: tuple(vectors.shape) for part, vectors in found.items()} != dict(self.shapes):
            raise ModelLoadError(f"embedding {self.name!r} has changed", hint="refresh the embeddings")
        return found

    @property
    def width(self) -> int:
        """Total width over all encoders, which a model must have for the embedding to be used."""
        return sum(width for _, width in self.shapes.values())

    @property
    def count(self) -> int:
        """Positions in a prompt that the embedding takes."""
        return list(self.shapes.values())[-1][0]

    @cached_property
    def short_hash(self) -> str | None:
        """The twelve digits of ``TI hashes``; None where files are not hashed, or this one is gone."""
        try:
            digest = self.digest()
        except OSError:
            return None
        return digest[:12] if digest else None

    def row(self) -> dict[str, JsonValue]:
        """The entry of ``/sdapi/v1/embeddings``."""
        return {
            "step": self.step,
            "sd_checkpoint": self.sd_checkpoint,
            "sd_checkpoint_name": self.sd_checkpoint_name,
            "shape": self.width,
            "vectors": self.count,
        }


class EmbeddingStore:
    """All embeddings of the folders. A scan looks at the shapes in new files and pictures' embeddings, no vectors.

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
        self._here = threading.local()
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
        return {**self._embeddings, **getattr(self._here, "shown", {})}

    @contextmanager
    def showing(self, embedding: Embedding) -> Iterator[None]:
        """Within it ``embedding`` goes before a file of its name on this thread: one in training, for its preview."""
        self._here.shown = {embedding.name: embedding}
        try:
            yield
        finally:
            self._here.shown = {}

    def usable(self, width: int | None) -> tuple[dict[str, Embedding], dict[str, Embedding]]:
        """Embeddings by name: those for models of total width ``width`` (None: any), and the others."""
        known = self.all()
        fitting = {name: e for name, e in known.items() if width is None or e.width == width}
        return fitting, {name: e for name, e in known.items() if name not in fitting}

    def rows(self, width: int | None) -> dict[str, dict[str, dict[str, JsonValue]]]:
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
                hashes = self._hashes
                embedding = look_at(path, (lambda: hashes.sha256(path)) if hashes else (lambda: None))
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


def look_at(path: Path, digest: Callable[[], str | None] = lambda: None) -> Embedding | None:
    """The embedding in ``path``, named after the file unless a picture names it; None for a picture without one.

    :raises LatentdError: the file is damaged or refused.
    :raises ValueError: it holds no embedding that is understood.
    """
    from latentd.models.files.safetensors_header import is_safetensors, safetensors_metadata
    from latentd.models.files.shapes import tensor_facts

    name = path.stem
    if path.suffix.lower() in PICTURES:
        if path.stem.lower().endswith(".preview") or (data := _in_picture(path)) is None:
            return None
        name = str(data.get("name", name))
        shapes = {part: _shape(tuple(v.shape), v.is_floating_point()) for part, v in _parts(data).items()}
    else:
        data = tensor_facts(path, max_bytes=MAX_BYTES)
        shapes = {part: _shape(v.shape, v.is_floating_point) for part, v in _parts(data).items()}
        if is_safetensors(path):
            data = {**data, **{key: value for key, value in safetensors_metadata(path).items() if key in _NOTES}}
    step = data.get("step")
    if isinstance(step, str) and step.isdecimal() and len(step) < _LONGEST_STEP:
        step = int(step)
    return Embedding(
        name=name,
        filename=str(path),
        shapes=shapes,
        read=lambda: read_vectors(path),
        digest=digest,
        step=step if isinstance(step, int) else None,
        sd_checkpoint=_text(data.get("sd_checkpoint")),
        sd_checkpoint_name=_text(data.get("sd_checkpoint_name")),
    )


def read_vectors(path: Path) -> dict[str, Tensor]:
    """The vectors in the file of an embedding: encoder → [V, width], float32.

    :raises LatentdError: the file is damaged or refused.
    :raises ValueError: it holds no embedding, or one of values that are no number.
    """
    from latentd.models.files.safetensors_header import is_safetensors
    from latentd.models.files.state_dict import open_state_dict
    from latentd.models.files.unpickle import load_pickle

    if path.suffix.lower() in PICTURES:
        return embedding_vectors(_in_picture(path) or {})
    if is_safetensors(path):
        return embedding_vectors(dict(open_state_dict(path)))
    return embedding_vectors(load_pickle(path, max_bytes=MAX_BYTES))


def _in_picture(path: Path) -> dict[str, JsonValue] | None:
    from latentd.conditioning.pixel_data import embedding_in_picture

    with open_regular(path) as file, Image.open(file) as image:
        return embedding_in_picture(image)


def embedding_vectors(data: Mapping[str, object]) -> dict[str, Tensor]:
    """The vectors in a file's dictionary: one ``string_to_param``, a pair for SDXL's encoders, or a single tensor.

    :raises ValueError: it is none of the three, or holds values that are no number.
    """
    return {part: _matrix(value) for part, value in _parts(data).items()}


def _parts(data: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Encoder → tensor, or what stands for one: whatever has a shape.

    :raises ValueError: ``data`` is of none of the forms that embeddings have.
    """
    if "string_to_param" in data:
        params = data["string_to_param"]
        if not isinstance(params, Mapping) or len(params) != 1:
            raise ValueError("the file holds more than one embedding")
        found = {"": next(iter(params.values()))}
    elif (pair := next((pair for pair in _PAIRS if pair[0] in data and pair[1] in data), None)) is not None:
        found = {"clip_l": data[pair[0]], "clip_g": data[pair[1]]}
    else:
        tensors = [value for value in data.values() if hasattr(value, "is_floating_point")]
        if len(tensors) != 1:
            raise ValueError("the file is not a textual-inversion embedding")
        found = {"": tensors[0]}
    if not all(hasattr(value, "is_floating_point") for value in found.values()):
        raise ValueError("the embedding holds no vectors")
    return found


def _shape(shape: tuple[int, ...], is_floating_point: bool) -> tuple[int, int]:
    """(V, width) of vectors.

    :raises ValueError: they cannot be vectors.
    """
    if not is_floating_point:
        raise ValueError("the embedding holds no vectors")
    rows, *width = (1, *shape) if len(shape) == 1 else shape or (0,)
    if len(width) != 1 or not 0 < rows <= MAX_VECTORS or width[0] == 0:
        raise ValueError(f"an embedding cannot have the shape {shape}")
    return rows, width[0]


def _matrix(value: Tensor) -> Tensor:
    import torch

    rows, width = _shape(tuple(value.shape), value.is_floating_point())
    tensor = value.detach().to(torch.float32, copy=True).reshape(rows, width)
    if not bool(tensor.isfinite().all()):
        raise ValueError("the embedding holds vectors that are no number (NaN or infinite)")
    return tensor


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
