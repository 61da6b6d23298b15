"""The emphasis of the first versions: brackets are found among the tokens, and a prompt is cut at one chunk."""

from __future__ import annotations

from collections.abc import Mapping

from latentd.prompts.chunks import CHUNK_LENGTH, Chunk, EmbeddingMatcher, EmbeddingPlace, NoEmbeddings, Tokenizer, wrap


def bracket_factors(vocabulary: Mapping[str, int]) -> dict[int, float]:
    """Token id → factor of the running weight, for every token of ``vocabulary`` that contains brackets.

    Tokens whose brackets cancel out are not listed: they stay ordinary text.
    """
    factors: dict[int, float] = {}
    for token, ident in vocabulary.items():
        factor = 1.0
        for character in token:
            if character in "([":
                factor = factor * 1.1 if character == "(" else factor / 1.1
            elif character in ")]":
                factor = factor / 1.1 if character == ")" else factor * 1.1
        if factor != 1.0:
            factors[ident] = factor
    return factors


def build_chunk_old(
    text: str,
    tokenizer: Tokenizer,
    factors: Mapping[int, float],
    embeddings: EmbeddingMatcher | None = None,
) -> Chunk:
    """The one chunk of ``text`` under the option ``use_old_emphasis_implementation``.

    Bracket tokens disappear and change a running weight; ``(x:1.3)`` is not understood (``:1.3`` is text), there is no
    BREAK, and what does not fit in 75 tokens is dropped.

    :param factors: from :func:`bracket_factors`; empty if the option ``emphasis`` is "None".
    """
    matcher = embeddings or NoEmbeddings()
    ids = tokenizer.encode(text)
    tokens: list[int] = []
    weights: list[float] = []
    places: list[EmbeddingPlace] = []
    weight, position = 1.0, 0
    while position < len(ids):
        found = matcher.find(ids, position)
        if (factor := factors.get(ids[position])) is not None:
            weight *= factor
            position += 1
        elif found is None:
            tokens.append(ids[position])
            weights.append(weight)
            position += 1
        else:
            places.append(EmbeddingPlace(len(tokens) + 1, found.name))
            tokens += [0] * found.vectors
            weights += [weight] * found.vectors
            position += found.length
    kept = [place for place in places if place.offset <= CHUNK_LENGTH]
    return wrap(tokens[:CHUNK_LENGTH], weights[:CHUNK_LENGTH], kept, tokenizer)
