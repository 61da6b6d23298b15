"""Ranking the entries of a category by CLIP. This module imports torch and transformers, so only the worker uses it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from latentd.api import ModelLoadError, check_regular
from latentd_interrogators.categories import Category
from latentd_interrogators.pixels import cropped

if TYPE_CHECKING:
    from PIL.Image import Image

_SHARPNESS = 100.0  # CLIP's own factor, by which its similarities become probabilities
_TEXTS_AT_ONCE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranker:
    """A loaded CLIP model (``transformers.CLIPModel``), its tokenizer, and a cache of the entries' features."""

    model: Any  # transformers' types do not tell what its models give
    tokenizer: Any
    known: dict[tuple[str, ...], Tensor] = field(default_factory=dict)

    @torch.inference_mode()
    def image_features(self, image: Image) -> Tensor:
        """The features of ``image`` [1,d], of length 1."""
        pixels = cropped(image, self.model.config.vision_config.image_size).to(self.model.device)
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        return normalize(self.model.visual_projection(pooled), dim=-1)

    @torch.inference_mode()
    def best(self, features: Tensor, category: Category, *, check: Callable[[], None]) -> list[tuple[str, float]]:
        """The category's best entries and their probabilities, in descending order.

        Probabilities are softmax(100·cosine) over all entries of the category (rules: a1111-interrogate).

        :param features: of the picture, from :meth:`image_features`.
        :param check: called before each batch of texts; raises an exception if the job is cancelled.
        """
        if category.entries not in self.known:
            self.known[category.entries] = self._text_features(category.entries, check)
        shares = (_SHARPNESS * features @ self.known[category.entries].T).softmax(dim=-1)[0]
        top = shares.topk(category.top)
        return [(category.entries[i], float(share)) for i, share in zip(top.indices.tolist(), top.values, strict=True)]

    def _text_features(self, texts: tuple[str, ...], check: Callable[[], None]) -> Tensor:
        parts = []
        length = self.model.config.text_config.max_position_embeddings
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            check()
            tokens = self.tokenizer(
                list(texts[start : start + _TEXTS_AT_ONCE]),
                padding="max_length",
                truncation=True,
                max_length=length,
                return_tensors="pt",
            ).to(self.model.device)
            pooled = self.model.text_model(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            ).pooler_output
            parts.append(normalize(self.model.text_projection(pooled), dim=-1))
        return torch.cat(parts)

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return sum(parameter.nbytes for parameter in self.model.parameters())


def load_ranker(path: Path, device: str) -> Ranker:
    """The CLIP model in the folder ``path``, in float32 on ``device``.

    :raises ModelLoadError: it is damaged, or not a CLIP model.
    """
    from transformers import AutoTokenizer, CLIPModel

    check_regular(path)
    try:
        model = CLIPModel.from_pretrained(str(path), local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
    except Exception as error:  # a damaged folder can raise anything in its readers
        reason = " ".join(str(error).split())[:300]
        raise ModelLoadError(f"{path.name} cannot be loaded as a CLIP model: {reason}") from error
    module: nn.Module = model  # whose methods transformers lays over without types
    return Ranker(model=module.float().eval().requires_grad_(False).to(device), tokenizer=tokenizer)
