from __future__ import annotations

import sys
from itertools import pairwise
from random import Random
from subprocess import run

import pytest

from latentd.prompts.tokenizer import ClipTokenizer, clip_tokenizer, open_clip_tokenizer


def test_the_vocabulary_is_clips() -> None:
    vocabulary = clip_tokenizer().vocabulary
    assert len(vocabulary) == 49406
    assert (vocabulary["!"], vocabulary[",</w>"]) == (0, ClipTokenizer.comma_id)
    assert set(vocabulary.values()) == set(range(49406))


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a photo of an astronaut", [320, 1125, 539, 550, 18376]),
        ("  A  PHOTO\nof an\tastronaut ", [320, 1125, 539, 550, 18376]),
        ("", []),
        (" \n", []),
        ("<|endoftext|>", [49407]),
    ],
)
def test_known_ids(text: str, ids: list[int]) -> None:
    assert clip_tokenizer().encode(text) == ids


def test_digits_are_single_tokens_and_contractions_split() -> None:
    tokenizer = clip_tokenizer()
    assert tokenizer.encode("123") == tokenizer.encode("1 2 3")
    assert tokenizer.encode("it's") == [*tokenizer.encode("it"), tokenizer.vocabulary["'s</w>"]]


def test_special_tokens_are_spelt_differently_by_open_clip() -> None:
    assert open_clip_tokenizer().encode("<end_of_text>") == [49407]
    assert 49407 not in open_clip_tokenizer().encode("<|endoftext|>")
    assert open_clip_tokenizer().encode("a &amp;amp; b") == open_clip_tokenizer().encode("a & b")


def test_any_text_encodes() -> None:
    text = "".join(map(chr, range(0x1, 0x3000))) + "\ud800 🔴 赤い円"
    assert all(0 <= ident < 49406 for ident in clip_tokenizer().encode(text))


def test_it_agrees_with_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    ours = clip_tokenizer()
    special = {"<|startoftext|>": ours.start_id, "<|endoftext|>": ours.end_id}
    theirs = transformers.CLIPTokenizer(vocab={**ours.vocabulary, **special}, merges=list(ours.merges))
    for text in (
        "masterpiece, (best quality:1.2), 1girl, blue_eyes, 8k!!! ???",
        "naïve café e\u0301 Ünïcödé Straße",
        "Привет мир, مرحبا بالعالم, 赤い円 🔴🎨",
        "don't we'll THEY'RE i'd 'tis x'y",
        "antidisestablishmentarianism a</w>b #@$% --- [x|y:0.5]",
    ):
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]


def test_importing_reads_nothing_heavy() -> None:
    code = (
        "import sys, latentd.prompts.tokenizer as t;"
        "assert not {'regex', 'tokenizers', 'torch'} & set(sys.modules);"
        "assert not t._merges.cache_info().currsize"
    )
    run([sys.executable, "-c", code], check=True)


def paired(word: str, tokenizer: ClipTokenizer) -> list[int]:
    """Byte-pair encoding as its paper writes it (Sennrich et al. 2016): the first pair of the list, everywhere."""
    ranks = {pair: rank for rank, pair in enumerate(tokenizer.merges)}
    symbols = [*word[:-1], word[-1] + "</w>"]
    while pairs := [(ranks[pair], pair) for pair in pairwise(symbols) if pair in ranks]:
        best = min(pairs)[1]
        joined: list[str] = []
        for symbol in symbols:
            if joined and (joined[-1], symbol) == best:
                joined[-1] += symbol
            else:
                joined.append(symbol)
        symbols = joined
    return [tokenizer.vocabulary[symbol] for symbol in symbols]


def test_words_are_paired_as_the_algorithm_says() -> None:
    tokenizer, random = clip_tokenizer(), Random(5)
    for length in [*range(1, 40), 300]:
        for letters in ("ab", "aeiou", "etaoinshrdlu"):
            word = "".join(random.choice(letters) for _ in range(length))
            assert tokenizer.encode(word) == paired(word, tokenizer), word


@pytest.mark.parametrize(
    "text",
    [
        "".join(chr(97 + place * place % 7) for place in range(100_000)),
        "\u0f71\u0f72\u0f74" * 100_000,
        "&#" + "9" * 100_000 + ";",
        "&amp;" * 20_000,
    ],
    ids=["one word", "marks on one letter", "an entity of many digits", "entities"],
)
def test_texts_made_to_be_slow_take_time_in_proportion_to_their_length(text: str) -> None:
    """Each took minutes, or raised, where the work grew with the square of the length."""
    for tokenizer in (clip_tokenizer(), open_clip_tokenizer()):
        assert len(tokenizer.encode(text)) <= 3 * len(text)


def test_marks_are_composed_and_put_in_order() -> None:
    assert clip_tokenizer().encode("e\u0301") == clip_tokenizer().encode("é")
    assert clip_tokenizer().encode("a\u0323\u0302") == clip_tokenizer().encode("a\u0302\u0323")
