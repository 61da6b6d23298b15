from __future__ import annotations

import pytest

from latentd.errors import InvalidRequest
from latentd.prompts.attention import parse_attention
from tests.prompts.counting import lines_run


def pieces(text: str, emphasis: str = "Original") -> list[tuple[str, float]]:
    return [(piece.text, piece.weight) for piece in parse_attention(text, emphasis)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("normal text", [("normal text", 1.0)]),
        ("", [("", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("a [faint] word", [("a ", 1.0), ("faint", 1 / 1.1), (" word", 1.0)]),
        ("(red:1.3) x", [("red", 1.3), (" x", 1.0)]),
        ("(red: -.5 ) x", [("red", -0.5), (" x", 1.0)]),
        ("(one)(two)", [("onetwo", 1.1)]),
        ("((two))", [("two", 1.1 * 1.1)]),
        ("([level])", [("level", 1 / 1.1 * 1.1)]),
    ],
)
def test_brackets_weigh_pieces(text: str, expected: list[tuple[str, float]]) -> None:
    assert pieces(text) == expected


def test_unclosed_brackets_act_to_the_end() -> None:
    assert pieces("a (red circle on a [blue") == [("a ", 1.0), ("red circle on a ", 1.1), ("blue", 1.1 * (1 / 1.1))]


def test_unmatched_closers_and_weights_are_text() -> None:
    assert pieces("a) b] c:1.2)") == [("a) b] c:1.2)", 1.0)]
    assert pieces("[red:1.5)]") == [("red:1.5)", 1 / 1.1)]


def test_a_weight_that_is_no_number_is_text() -> None:
    assert pieces("(red:1.2.3)") == [("red:1.2.3", 1.1)]
    assert pieces("(red:.)") == [("red:.", 1.1)]


def test_backslashes_escape_brackets_and_vanish_elsewhere() -> None:
    assert pieces(r"\(a\) \[b\] c\\d e\f") == [(r"(a) [b] c\d ef", 1.0)]
    assert pieces("\\") == [("", 1.0)]


def test_break_is_a_piece_of_its_own_and_eats_white_space() -> None:
    parsed = parse_attention("red BREAK\n blue BREAKER break")
    assert [piece.text for piece in parsed] == ["red", "BREAK", "blue BREAKER break"]
    assert [piece.is_break for piece in parsed] == [False, True, False]


def test_break_in_brackets_is_an_ordinary_word_of_negative_weight() -> None:
    word = parse_attention("(red BREAK blue)")[1]
    assert (word.text, word.weight, word.is_break) == ("BREAK", -1.1, False)


def test_without_emphasis_everything_is_literal() -> None:
    assert pieces(r"(a:1.4) \[b\] BREAK", "None") == [(r"(a:1.4) \[b\] BREAK", 1.0)]


def test_thousands_of_open_brackets_are_harmless() -> None:
    assert parse_attention("(" * 20000 + "a")[-1].weight == float("inf")


def test_thousands_of_closed_brackets_around_a_word_are_harmless() -> None:
    assert parse_attention("(" * 10000 + "a" + ")" * 10000)[-1].weight == float("inf")
    assert parse_attention("[" * 10000 + "a" + "]" * 10000)[-1].weight < 1e-300


def test_text_at_every_depth_is_weighed_exactly() -> None:
    depth = 400
    weights = [piece.weight for piece in parse_attention("(a" * depth + ")" * depth)]
    expected = [1.1]
    while len(expected) < depth:
        expected.append(expected[-1] * 1.1)
    assert weights == expected


@pytest.mark.parametrize("text", ["(a" * 5000 + ")" * 5000, "(" * 1500 + "".join(f"(a:0.{n})" for n in range(1500))])
def test_brackets_that_would_take_too_much_work_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        parse_attention(text)


@pytest.mark.parametrize("part", ["a)", "(a)", "[", "(a:1.1)", ":", "BREAK "])
def test_the_work_grows_with_the_length(part: str) -> None:
    short, long = (lines_run(parse_attention, part * count) for count in (100, 200))
    assert long < 2.1 * short
