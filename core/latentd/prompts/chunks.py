"""Tokens in chunks of 77: what the text encoder is given, with a weight for every position."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from latentd.prompts.attention import Piece

CHUNK_LENGTH = 75
"""Tokens of a chunk without its start and end token."""


class Tokenizer(Protocol):
    """What is needed of a tokenizer: token ids without start and end, and the four ids that the rules name."""

    @property
    def start_id(self) -> int:
        """The token that begins a chunk."""

    @property
    def end_id(self) -> int:
        """The token that ends a chunk."""

    @property
    def pad_id(self) -> int:
        """Fills a chunk after its first end token: the end token itself for CLIP, 0 for OpenCLIP."""

    @property
    def comma_id(self) -> int:
        """The token of a comma that ends a word (``,</w>``)."""

    def encode(self, text: str) -> Sequence[int]:
        """Token ids of ``text``."""


@dataclass(frozen=True, slots=True)
class Match:
    """An embedding found in a row of token ids.

    :param name: the embedding's name.
    :param length: how many tokens its name takes in the text.
    :param vectors: how many positions its vectors take in the chunk.
    """

    name: str
    length: int
    vectors: int


class EmbeddingMatcher(Protocol):
    """What is needed of a store of textual-inversion embeddings."""

    def find(self, ids: Sequence[int], offset: int) -> Match | None:
        """The embedding whose name's tokens stand at ``offset``, the longest name first; None when there is none."""


class NoEmbeddings:
    """A matcher that finds nothing."""

    def find(self, ids: Sequence[int], offset: int) -> Match | None:
        """None, wherever it is asked to look."""
        return None


@dataclass(frozen=True, slots=True)
class EmbeddingPlace:
    """Where an embedding's vectors go: ``offset`` indexes the 77 positions of the chunk (the start token is 0).

    Vectors that would go past position 76 are cut.
    """

    offset: int
    name: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """77 token ids and their weights; id 0 stands where an embedding's vectors go."""

    tokens: tuple[int, ...]
    multipliers: tuple[float, ...]
    embeddings: tuple[EmbeddingPlace, ...] = ()


def wrap(
    tokens: Sequence[int], weights: Sequence[float], places: Iterable[EmbeddingPlace], tokenizer: Tokenizer
) -> Chunk:
    """The chunk of at most 75 ``tokens``: wrapped in start and end, padded with weight 1.

    Everything after the first end token is ``pad_id``, also where the prompt itself spelled out an end token.
    """
    room = CHUNK_LENGTH - len(tokens)
    row = [tokenizer.start_id, *tokens, *[tokenizer.end_id] * (room + 1)]
    if tokenizer.pad_id != tokenizer.end_id:
        first = row.index(tokenizer.end_id) + 1
        row[first:] = [tokenizer.pad_id] * (len(row) - first)
    return Chunk(tuple(row), (1.0, *weights, *[1.0] * (room + 1)), tuple(places))


def empty_chunk(tokenizer: Tokenizer) -> Chunk:
    """The chunk of the empty prompt."""
    return wrap([], [], [], tokenizer)


def build_chunks(
    pieces: Iterable[Piece],
    tokenizer: Tokenizer,
    embeddings: EmbeddingMatcher | None = None,
    comma_padding_backtrack: int = 20,
) -> list[Chunk]:
    """The chunks of one text, at least one.

    A BREAK piece ends its chunk, even an empty one. When a chunk is full and the next token is no comma, what follows
    the chunk's last comma moves to the next chunk, if that is at most ``comma_padding_backtrack`` tokens (0: never).
    Embeddings in the moved part stay behind, as in AUTOMATIC1111. An embedding that does not fit in the rest of a chunk
    starts a new one; of one with more than 75 vectors, 75 are used.
    """
    builder = _Builder(tokenizer, embeddings or NoEmbeddings(), comma_padding_backtrack)
    for piece in pieces:
        if piece.is_break:
            builder.finish_chunk()
        else:
            builder.add(tokenizer.encode(piece.text), piece.weight)
    if builder.tokens or not builder.chunks:
        builder.finish_chunk()
    return builder.chunks


class _Builder:
    """The chunk being filled, and those that are done."""

    def __init__(self, tokenizer: Tokenizer, embeddings: EmbeddingMatcher, backtrack: int) -> None:
        self.tokenizer = tokenizer
        self.embeddings = embeddings
        self.backtrack = backtrack
        self.chunks: list[Chunk] = []
        self.tokens: list[int] = []
        self.weights: list[float] = []
        self.places: list[EmbeddingPlace] = []
        self.last_comma = -1

    def finish_chunk(self) -> None:
        self.chunks.append(wrap(self.tokens, self.weights, self.places, self.tokenizer))
        self.tokens, self.weights, self.places, self.last_comma = [], [], [], -1

    def add(self, ids: Sequence[int], weight: float) -> None:
        position = 0
        while position < len(ids):
            if ids[position] == self.tokenizer.comma_id:
                self.last_comma = len(self.tokens)
            elif self._comma_is_near():
                self._break_after_comma()
            if len(self.tokens) == CHUNK_LENGTH:
                self.finish_chunk()
            found = self.embeddings.find(ids, position)
            if found is None:
                self.tokens.append(ids[position])
                self.weights.append(weight)
                position += 1
            else:
                self._place(found, weight)
                position += max(found.length, 1)

    def _comma_is_near(self) -> bool:
        return (
            self.backtrack != 0
            and len(self.tokens) == CHUNK_LENGTH
            and self.last_comma != -1
            and CHUNK_LENGTH - self.last_comma <= self.backtrack
        )

    def _break_after_comma(self) -> None:
        first = self.last_comma + 1
        moved_tokens, moved_weights = self.tokens[first:], self.weights[first:]
        del self.tokens[first:], self.weights[first:]
        self.finish_chunk()
        self.tokens, self.weights = moved_tokens, moved_weights

    def _place(self, found: Match, weight: float) -> None:
        vectors = min(found.vectors, CHUNK_LENGTH)
        if len(self.tokens) + vectors > CHUNK_LENGTH:
            self.finish_chunk()
        self.places.append(EmbeddingPlace(len(self.tokens) + 1, found.name))
        self.tokens += [0] * vectors
        self.weights += [weight] * vectors


def align_chunks(texts: Sequence[list[Chunk]], tokenizer: Tokenizer) -> list[list[Chunk]]:
    """``texts`` (one list of chunks per segment of a prompt), each filled up with empty chunks to the longest's length.

    Chunk i of every segment is encoded together with chunk i of the others, because the weights are normalised by means
    over all of them.
    """
    count = max((len(chunks) for chunks in texts), default=0)
    return [[*chunks, *[empty_chunk(tokenizer)] * (count - len(chunks))] for chunks in texts]
