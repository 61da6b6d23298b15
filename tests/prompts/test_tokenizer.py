from __future__ import annotations

import sys
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
    from latentd.prompts.tokenizer import _ranks

    ours = clip_tokenizer()
    special = {"<|startoftext|>": ours.start_id, "<|endoftext|>": ours.end_id}
    theirs = transformers.CLIPTokenizer(vocab={**ours.vocabulary, **special}, merges=list(_ranks()))
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
        "assert not {'regex', 'torch'} & set(sys.modules);"
        "assert not t._ranks.cache_info().currsize"
    )
    run([sys.executable, "-c", code], check=True)
