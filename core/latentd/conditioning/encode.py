"""Text through a model's text encoders: chunks, embeddings, clip skip, emphasis and SDXL's vector.

Rules: a1111-chunks, a1111-embeddings, a1111-clip-skip, a1111-emphasis, a1111-sdxl.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentd.conditioning.embeddings import Embedding, EmbeddingIndex, EmbeddingStore
from latentd.errors import InvalidRequest
from latentd.models.loaded import LoadedModel
from latentd.models.modules.text_encoder import Hidden, TextEncoder
from latentd.prompts.attention import parse_attention
from latentd.prompts.chunks import Chunk, align_chunks, build_chunks
from latentd.prompts.old_attention import bracket_factors, build_chunk_old
from latentd.prompts.tokenizer import ClipTokenizer, clip_tokenizer, open_clip_tokenizer

CACHE_SIZE = 64
#: Bytes of encoded text that are remembered; the newest result stays whatever its size. A plain prompt of Stable
#: Diffusion 1.5 takes a quarter of a megabyte, one that is edited at every step a thousand times that.
CACHE_BYTES = 64 << 20
#: Chunks that go through an encoder together; prompt editing may ask for a thousand.
ROWS_AT_ONCE = 32
_TOKENIZERS = {"clip": clip_tokenizer(), "openclip": open_clip_tokenizer()}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """What else decides the encoding of a text. Fields have the names of options where there is such an option.

    :param width: width of the pass in pixels, for SDXL's vector.
    :param height: height of the pass in pixels.
    :param networks: any hashable value that changes whenever the networks applied to the text encoders change.
    """

    clip_skip: int = 1
    sdxl_clip_l_skip: bool = False
    emphasis: str = "Original"
    comma_padding_backtrack: int = 20
    use_old_emphasis_implementation: bool = False
    width: int = 512
    height: int = 512
    sdxl_crop_top: int = 0
    sdxl_crop_left: int = 0
    sdxl_refiner_high_aesthetic_score: float = 6.0
    sdxl_refiner_low_aesthetic_score: float = 2.5
    networks: Hashable = None


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """The encoding of one text.

    :param context: [n,width] float32, n being a multiple of 77.
    :param vector: [k] for SDXL models, else None.
    """

    context: Tensor
    vector: Tensor | None = None


@dataclass(slots=True)
class _Batch:
    encoded: list[Encoded]
    used: list[Embedding] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        return sum(e.context.nbytes + (0 if e.vector is None else e.vector.nbytes) for e in self.encoded)


class TextConditioner:
    """Encodes texts for one loaded model and caches the latest results.

    :param embeddings: textual-inversion embeddings; None if there are none.
    :ivar bundled: embeddings inside the networks that are applied to the model; a file of the same name takes
        precedence.
    """

    def __init__(self, model: LoadedModel, embeddings: EmbeddingStore | None = None) -> None:
        self.model = model
        self.embeddings = embeddings or EmbeddingStore([])
        self.bundled: Mapping[str, Embedding] = {}
        self._cache: OrderedDict[Hashable, _Batch] = OrderedDict()
        self._indexes: list[tuple[ClipTokenizer, EmbeddingIndex]] = []
        self._indexed: dict[str, Embedding] | None = None

    def encode(
        self,
        texts: Sequence[str],
        settings: TextSettings,
        *,
        negative: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> tuple[list[Encoded], list[Embedding]]:
        """The encoding of each of ``texts``, and the embeddings used in them, in order.

        The texts are the segments of one prompt: they get equally many chunks, and emphasis is normalised by means over
        all of them. Results are cached.

        :param check: called between the encoders' runs; an exception that it raises ends the work.
        :raises InvalidRequest: weights so large that the result is no longer finite.
        """
        indexes = self._current_indexes()
        known = self._known_embeddings()
        key = (tuple(texts), settings, negative, tuple((name, id(e)) for name, e in known.items()))
        if (batch := self._cache.get(key)) is None:
            with torch.no_grad(), self.model.part("text"):
                batch = self._cache[key] = self._encode(
                    texts, settings, negative, self.model.text_encoders, indexes, check
                )
            self._trim()
        self._cache.move_to_end(key)
        return batch.encoded, batch.used

    def learn(self, texts: Sequence[str], settings: TextSettings, indexes: Sequence[EmbeddingIndex]) -> list[Encoded]:
        """Encode for training: nothing is cached, and gradients flow.

        They flow back into the embeddings' vectors and into the networks attached to the encoders, which must already
        be on their compute device.

        :param indexes: one for each encoder, from :meth:`indexes_with`.
        """
        tokenizers = [_TOKENIZERS[encoder.architecture.kind] for encoder in self.model.text_encoders]
        pairs = list(zip(tokenizers, indexes, strict=True))
        return self._encode(texts, settings, False, self.model.text_encoders, pairs, lambda: None).encoded

    def indexes_with(self, embeddings: Mapping[str, Embedding]) -> list[EmbeddingIndex]:
        """For each encoder what finds the names of the known embeddings and of ``embeddings``, which go first."""
        known = {**self._known_embeddings(), **embeddings}
        return [EmbeddingIndex(known, _TOKENIZERS[e.architecture.kind]) for e in self.model.text_encoders]

    def token_vectors(self, text: str) -> list[Tensor]:
        """The rows [n,width], float32, that each encoder's table of tokens has for ``text``; none for an empty one."""
        found = []
        for encoder in self.model.text_encoders:
            ids = list(_TOKENIZERS[encoder.architecture.kind].encode(text))
            table = encoder.transformer.embeddings.token_embedding.weight
            found.append(table[torch.tensor(ids, dtype=torch.long, device=table.device)].detach().float().cpu())
        return found

    def _trim(self) -> None:
        size = sum(batch.nbytes for batch in self._cache.values())
        while len(self._cache) > 1 and (len(self._cache) > CACHE_SIZE or size > CACHE_BYTES):
            _, oldest = self._cache.popitem(last=False)
            size -= oldest.nbytes

    @property
    def width(self) -> int:
        """Sum of the encoders' widths, which an embedding must have to fit."""
        return sum(encoder.architecture.width for encoder in self.model.text_encoders)

    def clear(self) -> None:
        """Empty the cache."""
        self._cache.clear()

    def _encode(
        self,
        texts: Sequence[str],
        settings: TextSettings,
        negative: bool,
        encoders: Sequence[TextEncoder],
        indexes: list[tuple[ClipTokenizer, EmbeddingIndex]],
        check: Callable[[], None],
    ) -> _Batch:
        contexts: list[Tensor] = []
        pooled: Tensor | None = None
        used: dict[str, Embedding] = {}
        for encoder, (tokenizer, index) in zip(encoders, indexes, strict=True):
            built = {t: _chunks(t, tokenizer, index, settings) for t in texts}
            chunks = align_chunks([built[t] for t in texts], tokenizer)
            context, pool = self._run(encoder, chunks, index, settings, used, check)
            contexts.append(context)
            pooled = pool if pool is not None else pooled
        context = torch.cat(contexts, dim=-1)
        if not self.model.is_sdxl:
            return _Batch([Encoded(c) for c in context], list(used.values()))
        assert pooled is not None
        if negative and all(text == "" for text in texts):
            context, pooled = torch.zeros_like(context), torch.zeros_like(pooled)
        sizes = self._size_vector(settings, negative).to(pooled)
        vectors = [torch.cat([p, sizes]) for p in pooled]
        return _Batch([Encoded(c, v) for c, v in zip(context, vectors, strict=True)], list(used.values()))

    def _run(
        self,
        encoder: TextEncoder,
        texts: list[list[Chunk]],
        index: EmbeddingIndex,
        settings: TextSettings,
        used: dict[str, Embedding],
        check: Callable[[], None],
    ) -> tuple[Tensor, Tensor | None]:
        """Context [T,77k,width] and, for SDXL's second encoder, the pooled vector [T,p] of the first chunk."""
        parts: list[Tensor] = []
        pooled: Tensor | None = None
        for number in range(len(texts[0])):
            chunks = [text[number] for text in texts]
            # Equal chunks, of which prompt editing makes many, go through the encoder once.
            row_of = {chunk: row for row, chunk in enumerate(dict.fromkeys(chunks))}
            rows = [row_of[chunk] for chunk in chunks]
            z, pool = self._states(encoder, list(row_of), index, settings, used, check)
            if number == 0 and pool is not None:
                pooled = pool[rows]
            parts.append(_emphasise(z[rows], chunks, settings))
        return torch.cat(parts, dim=1), pooled

    def _states(
        self,
        encoder: TextEncoder,
        chunks: Sequence[Chunk],
        index: EmbeddingIndex,
        settings: TextSettings,
        used: dict[str, Embedding],
        check: Callable[[], None],
    ) -> tuple[Tensor, Tensor | None]:
        """The states [C,77,width] in float32, and the pooled vectors [C,p] if the encoder has a projection."""
        device = encoder.transformer.final_layer_norm.weight.device
        states: list[Tensor] = []
        pooled: list[Tensor] = []
        for start in range(0, len(chunks), ROWS_AT_ONCE):
            check()
            some = chunks[start : start + ROWS_AT_ONCE]
            ids = torch.tensor([chunk.tokens for chunk in some], device=device)
            hidden = encoder.hidden_states(ids, self._injections(encoder, some, index, used))
            states.append(self._select(encoder, hidden, settings).float())
            if self.model.is_sdxl and encoder.projection is not None:
                pooled.append(encoder.pooled(hidden, ids).float())
        return torch.cat(states), torch.cat(pooled) if pooled else None

    def _select(self, encoder: TextEncoder, hidden: Hidden, settings: TextSettings) -> Tensor:
        """The states that condition a UNet of the model's family (rules: a1111-clip-skip, a1111-sdxl)."""
        if self.model.is_sdxl:
            # Option sdxl_clip_l_skip: clip skip chooses the layer of the first encoder; 1 is the last.
            if settings.sdxl_clip_l_skip and encoder.architecture.kind == "clip":
                return hidden.from_end(max(1, settings.clip_skip))
            return hidden.from_end(2)
        if self.model.family == "sd2":
            return encoder.final_norm(hidden.from_end(1 if encoder.architecture.lacks_last else 2))
        return encoder.final_norm(hidden.from_end(max(1, settings.clip_skip)))

    def _injections(
        self, encoder: TextEncoder, chunks: Sequence[Chunk], index: EmbeddingIndex, used: dict[str, Embedding]
    ) -> dict[int, list[tuple[int, Tensor]]]:
        injected: dict[int, list[tuple[int, Tensor]]] = {}
        part = "clip_l" if encoder.architecture.kind == "clip" else "clip_g"
        for row, chunk in enumerate(chunks):
            for place in chunk.embeddings:
                embedding = index.embeddings[place.name]
                used[place.name] = embedding
                vectors = embedding.vectors.get(part, embedding.vectors.get(""))
                if vectors is not None and vectors.shape[1] == encoder.architecture.width:
                    injected.setdefault(row, []).append((place.offset, vectors))
        return injected

    def _size_vector(self, settings: TextSettings, negative: bool) -> Tensor:
        """The sinusoidal part of SDXL's vector: sizes as height, width; for the refiner a score replaces the target."""
        size = [float(settings.height), float(settings.width)]
        crop = [float(settings.sdxl_crop_top), float(settings.sdxl_crop_left)]
        score = settings.sdxl_refiner_low_aesthetic_score if negative else settings.sdxl_refiner_high_aesthetic_score
        last = [float(score)] if self.model.family == "sdxl-refiner" else size
        return sinusoidal(torch.tensor([*size, *crop, *last])).flatten()

    def _known_embeddings(self) -> dict[str, Embedding]:
        fitting = {name: e for name, e in self.bundled.items() if e.width == self.width}
        return {**fitting, **self.embeddings.usable(self.width)[0]}

    def _current_indexes(self) -> list[tuple[ClipTokenizer, EmbeddingIndex]]:
        """One tokenizer and index for each encoder, created again when the embeddings have changed."""
        known = self._known_embeddings()
        if known != self._indexed:
            tokenizers = [_TOKENIZERS[encoder.architecture.kind] for encoder in self.model.text_encoders]
            self._indexes = [(tokenizer, EmbeddingIndex(known, tokenizer)) for tokenizer in tokenizers]
            self._indexed = known
        return self._indexes


def sinusoidal(values: Tensor, width: int = 256) -> Tensor:
    """[n,width] for ``values`` [n]: cosines, then sines, of frequencies falling from 1 to 1/10000."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32) / half)
    angles = values.float()[:, None] * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _chunks(text: str, tokenizer: ClipTokenizer, index: EmbeddingIndex, settings: TextSettings) -> list[Chunk]:
    if settings.use_old_emphasis_implementation:
        return [build_chunk_old(text, tokenizer, bracket_factors(tokenizer.vocabulary), index)]
    pieces = parse_attention(text, settings.emphasis)
    return build_chunks(pieces, tokenizer, index, settings.comma_padding_backtrack)


def _emphasise(z: Tensor, chunks: Sequence[Chunk], settings: TextSettings) -> Tensor:
    """``z`` [T,77,width] under the chunks' weights (rules: a1111-emphasis).

    With emphasis "Original" the mean of the whole tensor stays what it was.

    :raises InvalidRequest: weights so large that the result is no longer finite.
    """
    if settings.emphasis in ("None", "Ignore") and not settings.use_old_emphasis_implementation:
        return z
    if all(weight == 1 for chunk in chunks for weight in chunk.multipliers):
        return z  # the ratio of the means is 1, or 0/0 where the mean is 0
    weights = torch.tensor([chunk.multipliers for chunk in chunks], dtype=z.dtype, device=z.device)[..., None]
    weighted = z * weights
    if settings.emphasis != "No norm":
        weighted = weighted * (z.mean() / weighted.mean())
    if bool(z.isfinite().all()) and not bool(weighted.isfinite().all()):
        raise InvalidRequest("the prompt's emphasis is too strong", hint="use fewer brackets or smaller weights")
    return weighted
