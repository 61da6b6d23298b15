from __future__ import annotations

from collections.abc import Sequence

from latentd.prompts.attention import Piece, parse_attention
from latentd.prompts.chunks import Chunk, EmbeddingPlace, Match, align_chunks, build_chunks, empty_chunk
from latentd.prompts.tokenizer import ClipTokenizer, clip_tokenizer, open_clip_tokenizer

COMMA, WORD, END = 267, 1125, 49407


class Numbers:
    """A tokenizer whose text is the ids themselves."""

    start_id, end_id, pad_id, comma_id = 49406, END, END, COMMA

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]


class OneEmbedding:
    """Matches the ids 5 6 as an embedding of some vectors."""

    def __init__(self, vectors: int) -> None:
        self.vectors = vectors

    def find(self, ids: Sequence[int], offset: int) -> Match | None:
        return Match("ti", 2, self.vectors) if list(ids[offset : offset + 2]) == [5, 6] else None


def chunks(ids: list[int], backtrack: int = 20, embeddings: OneEmbedding | None = None) -> list[Chunk]:
    text = " ".join(map(str, ids))
    return build_chunks([Piece(text, 1.0)], Numbers(), embeddings, backtrack)


def test_a_short_prompt_is_wrapped_and_padded() -> None:
    tokenizer = clip_tokenizer()
    (chunk,) = build_chunks(parse_attention("a (red:1.3) circle"), tokenizer)
    assert chunk.tokens == (49406, *tokenizer.encode("a red circle"), *[END] * 73)
    assert chunk.multipliers == (1.0, 1.0, 1.3, 1.0, *[1.0] * 73)


def test_the_empty_prompt_is_one_chunk() -> None:
    tokenizer = clip_tokenizer()
    assert build_chunks(parse_attention(""), tokenizer) == [empty_chunk(tokenizer)]


def test_open_clip_pads_with_zero_after_the_first_end() -> None:
    (chunk,) = build_chunks(parse_attention("a cat"), open_clip_tokenizer())
    assert chunk.tokens[3:] == (END, *[0] * 73)


def test_an_end_token_in_the_prompt_ends_it_for_open_clip() -> None:
    tokenizer = ClipTokenizer(pad_id=0)
    (chunk,) = build_chunks([Piece("a <|endoftext|> cat", 1.0)], tokenizer)
    assert chunk.tokens[2:5] == (END, 0, 0)


def test_75_tokens_fit_and_76_do_not() -> None:
    assert len(chunks([WORD] * 75)) == 1
    first, second = chunks([WORD] * 76)
    assert first.tokens == (49406, *[WORD] * 75, END)
    assert second.tokens[:3] == (49406, WORD, END)


def test_text_after_a_near_comma_moves_to_the_next_chunk() -> None:
    ids = [WORD] * 60 + [COMMA] + [WORD] * 20
    first, second = chunks(ids)
    assert first.tokens[61:63] == (COMMA, END)
    assert second.tokens.count(WORD) == 20


def test_a_comma_further_back_than_the_limit_moves_nothing() -> None:
    ids = [WORD] * 54 + [COMMA] + [WORD] * 30
    assert chunks(ids, 20)[0].tokens.count(WORD) == 74
    assert chunks(ids, 21)[0].tokens.count(WORD) == 54
    assert chunks(ids, 0)[0].tokens.count(WORD) == 74


def test_a_comma_that_comes_when_the_chunk_is_full_moves_nothing() -> None:
    first, second = chunks([WORD] * 70 + [COMMA] + [WORD] * 4 + [COMMA, WORD])
    assert first.tokens.count(WORD) == 74
    assert second.tokens[1:3] == (COMMA, WORD)


def test_break_closes_a_chunk_even_an_empty_one() -> None:
    tokenizer = clip_tokenizer()
    parts = build_chunks(parse_attention("BREAK red BREAK BREAK blue"), tokenizer)
    assert [part.tokens[1] for part in parts] == [END, *tokenizer.encode("red"), END, *tokenizer.encode("blue")]


def test_an_embedding_takes_a_position_per_vector() -> None:
    (chunk,) = build_chunks([Piece("9 ", 1.0), Piece("5 6 8", 1.2)], Numbers(), OneEmbedding(3))
    assert chunk.tokens[:6] == (49406, 9, 0, 0, 0, 8)
    assert chunk.multipliers[:6] == (1.0, 1.0, 1.2, 1.2, 1.2, 1.2)
    assert chunk.embeddings == (EmbeddingPlace(2, "ti"),)


def test_an_embedding_that_does_not_fit_starts_a_chunk() -> None:
    first, second = chunks([WORD] * 73 + [5, 6], embeddings=OneEmbedding(3))
    assert first.embeddings == ()
    assert second.embeddings == (EmbeddingPlace(1, "ti"),)


def test_an_embedding_longer_than_a_chunk_is_cut() -> None:
    (chunk,) = chunks([5, 6], embeddings=OneEmbedding(200))
    assert len(chunk.tokens) == len(chunk.multipliers) == 77


def test_embeddings_stay_when_their_tokens_move() -> None:
    ids = [WORD] * 60 + [COMMA, 5, 6] + [WORD] * 15
    first, second = chunks(ids, embeddings=OneEmbedding(2))
    assert first.embeddings == (EmbeddingPlace(62, "ti"),)
    assert second.tokens[1:3] == (0, 0)
    assert second.embeddings == ()


def test_segments_are_filled_to_the_same_count() -> None:
    short, long = chunks([WORD]), chunks([WORD] * 160)
    aligned = align_chunks([short, long], Numbers())
    assert [len(part) for part in aligned] == [3, 3]
    assert aligned[0][1:] == [empty_chunk(Numbers())] * 2
    assert aligned[1] == long
