"""Textual inversion: vectors that stand for a name in prompts.

Source: Gal et al., "An image is worth one word" (2022); the files' forms are AUTOMATIC1111's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.api import Embedding, InvalidRequest, Services, TrainableModel, UNetHook, read_embedding
from latentd_training.learner import MadeWith, ParameterGroup
from latentd_training.storage import pickled

if TYPE_CHECKING:
    from torch import Tensor

#: The token of ``*`` in CLIP's vocabulary, which AUTOMATIC1111's files name.
PLACEHOLDER_TOKEN = 265
MAX_STORED = 256 << 20
SINGLE = "emb_params"
"""The only tensor's name in files of safetensors."""
ONLY = ""
"""The text part of models with one text encoder."""


def initial_vectors(model: TrainableModel, text: str, count: int) -> dict[str, Tensor]:
    """By text part ``count`` vectors [count,width] of the tokens of ``text``, spread evenly; zeros for an empty text.

    :raises InvalidRequest: ``text`` has no tokens.
    """
    import torch

    found: dict[str, Tensor] = {}
    for part, rows in model.token_vectors(text or "*").items():
        if not len(rows):
            raise InvalidRequest("init_text: it holds no word")
        chosen = rows[[index * len(rows) // count for index in range(count)]]
        found[part] = chosen if text else torch.zeros_like(chosen)
    return found


def file_ending(vectors: Mapping[str, Tensor]) -> str:
    """``.pt``; ``.safetensors`` for SDXL's two parts, the form in which AUTOMATIC1111 reads those."""
    return ".pt" if set(vectors) == {ONLY} else ".safetensors"


def embedding_file(vectors: Mapping[str, Tensor], made_with: MadeWith, name: str, ending: str) -> bytes:
    """The bytes of an embedding's file of this ending: ``.pt``, or ``.safetensors`` with its notes in the header."""
    plain = {part: value.detach().float().cpu().clone() for part, value in vectors.items()}
    if ending == ".pt":
        return pickled(embedding_data(plain[ONLY], made_with, name))
    plain = {part or SINGLE: value for part, value in plain.items()}
    from safetensors.torch import save

    notes = {
        "name": name,
        "step": str(made_with.step),
        "sd_checkpoint": made_with.sd_checkpoint,
        "sd_checkpoint_name": made_with.sd_checkpoint_name,
    }
    return save(plain, {key: value for key, value in notes.items() if value is not None})


def embedding_data(vectors: Tensor, made_with: MadeWith, name: str) -> dict[str, object]:
    """The dictionary of an embedding with one part."""
    return {
        "string_to_token": {"*": PLACEHOLDER_TOKEN},
        "string_to_param": {"*": vectors},
        "name": name,
        "step": made_with.step,
        "sd_checkpoint": made_with.sd_checkpoint,
        "sd_checkpoint_name": made_with.sd_checkpoint_name,
    }


def checksum(vectors: Mapping[str, Tensor]) -> str:
    """AUTOMATIC1111's four digits of an embedding: a rolling hash of its numbers times a hundred, cut to integers."""
    value = 0
    for part in vectors.values():
        for number in (part.detach().float().reshape(-1) * 100).tolist():
            value = (value * 281 ^ int(number) * 997) & 0xFFFFFFFF
    return f"{value & 0xFFFF:04x}"


class EmbeddingLearner:
    """An embedding in training. Implements :class:`latentd_training.learner.Learner`."""

    trains_text = True

    def __init__(self, name: str, path: Path, vectors: Mapping[str, Tensor], step: int) -> None:
        from torch import nn

        self.name = name
        self.path = path
        self.step = step
        self._vectors = {part: nn.Parameter(value.detach().float().clone()) for part, value in vectors.items()}

    @classmethod
    def read(cls, name: str, path: Path, model: TrainableModel) -> EmbeddingLearner:
        """The embedding in the file ``path``.

        :raises InvalidRequest: it is for models of another kind. :raises LatentdError: the file is damaged.
        """
        found = read_embedding(path)
        if found is None:
            raise InvalidRequest(f"embedding_name: {path.name} holds no embedding")
        wanted = {part: rows.shape[1] for part, rows in model.token_vectors("").items()}
        if {part: value.shape[1] for part, value in found.vectors.items()} != wanted:
            raise InvalidRequest(
                f"embedding_name: {name!r} is for models of another kind than {model.model.info.name}",
                hint="create one with this model, or select another checkpoint",
            )
        device = model.device
        return cls(name, path, {part: value.to(device) for part, value in found.vectors.items()}, found.step or 0)

    def groups(self) -> list[ParameterGroup]:
        """One group of all vectors."""
        return [{"params": list(self._vectors.values()), "weight_decay": 0.0}]

    @contextmanager
    def acting(self, model: TrainableModel) -> Iterator[Sequence[UNetHook]]:
        """Within it the name stands for the vectors."""
        model.learn_embedding(self.name, self._vectors)
        yield ()

    def set_training(self, training: bool) -> None:
        """Nothing: there is no drop-out."""

    def seed_drop_out(self, seed: int) -> None:
        """Nothing either."""

    @contextmanager
    def showing(self, services: Services) -> Iterator[Sequence[UNetHook]]:
        """Within it generations find the vectors as they are now."""
        copies = {part: value.detach().clone() for part, value in self._vectors.items()}
        with services.embeddings.showing(Embedding.of(self.name, str(self.path), copies)):
            yield ()

    def file(self, made_with: MadeWith, name: str) -> bytes:
        """The bytes of its file."""
        return embedding_file(self._vectors, made_with, name, self.path.suffix.lower())

    def checksum(self, data: bytes) -> str:
        """That of the numbers, whatever file they stand in."""
        return checksum(self._vectors)

    def tensors(self) -> Mapping[str, Tensor]:
        """The vectors by text part."""
        return self._vectors
