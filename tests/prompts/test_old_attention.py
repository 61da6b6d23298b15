from __future__ import annotations

import pytest

from latentd.prompts.old_attention import bracket_factors, build_chunk_old
from latentd.prompts.tokenizer import clip_tokenizer


@pytest.fixture(scope="module")
def factors() -> dict[int, float]:
    return bracket_factors(clip_tokenizer().vocabulary)


def test_tokens_with_brackets_carry_factors(factors: dict[int, float]) -> None:
    vocabulary = clip_tokenizer().vocabulary
    assert factors[vocabulary["(</w>"]] == pytest.approx(1.1)
    assert factors[vocabulary["[</w>"]] == pytest.approx(1 / 1.1)
    assert factors[vocabulary["((</w>"]] == pytest.approx(1.21)
    assert vocabulary["()</w>"] not in factors


def test_brackets_vanish_and_change_the_running_weight(factors: dict[int, float]) -> None:
    tokenizer = clip_tokenizer()
    chunk = build_chunk_old("a (red) circle", tokenizer, factors)
    a, red, circle = tokenizer.encode("a red circle")
    assert chunk.tokens[:5] == (49406, a, red, circle, 49407)
    assert chunk.multipliers[1:5] == pytest.approx((1.0, 1.1, 1.0, 1.0))


def test_numbers_are_text_in_this_mode(factors: dict[int, float]) -> None:
    tokenizer = clip_tokenizer()
    chunk = build_chunk_old("(red:1.4)", tokenizer, factors)
    assert chunk.tokens[1:7] == (*tokenizer.encode("red"), *tokenizer.encode(":1.4"), 49407)


def test_text_beyond_one_chunk_is_dropped(factors: dict[int, float]) -> None:
    chunk = build_chunk_old("cat " * 100, clip_tokenizer(), factors)
    assert len(chunk.tokens) == len(chunk.multipliers) == 77
    assert chunk.tokens[-1] == 49407
    assert 49407 not in chunk.tokens[:-1]
