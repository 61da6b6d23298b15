from __future__ import annotations

from typing import Any

import pytest

from latentd.prompts import editing
from latentd.prompts.editing import Segment, schedule, segment_at
from tests.prompts.counting import lines_run


def segments(
    text: str, steps: int = 10, hires_steps: int | None = None, use_old: bool = False
) -> list[tuple[int, str]]:
    return [(segment.end_at_step, segment.text) for segment in schedule(text, steps, hires_steps, use_old)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("test", [(10, "test")]),
        ("", [(10, "")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3 ]", [(3, "a "), (10, "a b")]),
        ("a [b::3]", [(3, "a b"), (10, "a ")]),
        ("a [b:c:0.5] d", [(5, "a b d"), (10, "a c d")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("[a:b:25]", [(10, "a")]),
        ("a [b] (c:1.2)", [(10, "a [b] (c:1.2)")]),
    ],
)
def test_switches(text: str, expected: list[tuple[int, str]]) -> None:
    assert segments(text) == expected


@pytest.mark.parametrize("text", ["a [unbalanced", "[a:b:c]", "[a:b:c:3]", "(a:b:c)", "a: b] c)", "[a:3", "[a:b:3 4]"])
def test_what_is_no_group_is_text(text: str) -> None:
    assert segments(text) == [(10, text)]


def test_groups_count_among_loose_brackets() -> None:
    assert segments("((a][:b:c [d:3]") == [(3, "((a][:b:c "), (10, "((a][:b:c d")]


@pytest.mark.parametrize("text", ["a | b [c:3]", "(a|b) [c:3]", "[a|b [c:3]", "[a|b:0.5] [c:3]", "[c:3] \\"])
def test_a_prompt_that_does_not_parse_is_used_as_written(text: str) -> None:
    assert segments(text) == [(10, text)]


def test_escaped_characters_are_no_grammar() -> None:
    assert segments(r"\[a:b:3\] c\|d") == [(10, r"\[a:b:3\] c\|d")]


def test_alternation_takes_turns() -> None:
    assert segments("a [red|green]", 4) == [(1, "a red"), (2, "a green"), (3, "a red"), (4, "a green")]
    assert segments("[fe|]male", 3) == [(1, "female"), (2, "male"), (3, "female")]
    assert [text for _, text in segments("[a|b|] [c|d]", 4)] == ["a c", "b d", " c", "a d"]


def test_a_switch_inside_an_alternation() -> None:
    assert [text for _, text in segments("[x|[a:b:3]]", 6)] == ["x", "a", "x", "b", "x", "b"]


def test_numbers_with_a_point_are_fractions_and_others_steps() -> None:
    assert segments("[a:b:1.0]") == [(10, "a")]
    assert segments("[a:b:1]") == [(1, "a"), (10, "b")]
    assert segments("[a:b:.25]", 8) == [(2, "a"), (8, "b")]
    assert segments("[a:b:-3]") == [(10, "b")]
    assert segments("[a:b:1e999]") == [(10, "a")]


def test_in_the_hires_pass_numbers_count_on() -> None:
    assert segments("[a:b:0.5]", 10, 10) == [(10, "b")]
    assert segments("[a:b:1.5]", 10, 8) == [(4, "a"), (8, "b")]
    assert segments("[a:b:12]", 10, 8) == [(2, "a"), (8, "b")]


def test_the_old_rule_tells_fractions_by_size() -> None:
    assert segments("[a:b:1.5]", 8, use_old=True) == [(1, "a"), (8, "b")]
    assert segments("[a:b:0.5]", 8, use_old=True) == [(4, "a"), (8, "b")]
    assert segments("[a:b:0.5]", 8, 20, use_old=True) == [(4, "a"), (8, "b")]


def test_a_segment_covers_one_call_more_than_its_end() -> None:
    parts = schedule("[a:b:3]", 8)
    assert [segment_at(parts, call).text for call in range(8)] == ["a"] * 4 + ["b"] * 4


def test_the_first_alternative_lasts_two_calls() -> None:
    parts = schedule("[a|b]", 4)
    assert [segment_at(parts, call).text for call in range(4)] == ["a", "a", "b", "a"]


def test_a_call_past_the_end_uses_the_first_segment() -> None:
    assert segment_at([Segment(2, "a"), Segment(4, "b")], 9).text == "a"


def test_deep_nesting_is_harmless() -> None:
    depth = 20000
    text = "[a:" * depth + "b" + ":3]" * depth
    assert segments(text) == [(3, "a"), (10, "b")]
    assert segments("([" * depth) == [(10, "([" * depth)]


@pytest.mark.parametrize("pair", [("(a", ")"), ("[a", "]"), ("[a:", ":2]"), ("[a|b", "]"), ("(", ""), ("[a:b(", ")")])
def test_the_work_grows_with_the_depth(pair: tuple[str, str]) -> None:
    short, long = (lines_run(schedule, pair[0] * depth + pair[1] * depth, 4) for depth in (100, 200))
    assert long < 2.1 * short


def test_a_closing_bracket_copies_none_of_what_it_encloses(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[int] = []
    literal = editing._Frame.literal

    def counted(frame: Any, closer: str = "") -> Any:
        run = literal(frame, closer)
        copied.append(len(run.parts))
        return run

    monkeypatch.setattr(editing._Frame, "literal", counted)
    schedule("(a" * 1000 + ")" * 1000, 4)
    assert len(copied) == 1001
    assert max(copied) <= 3
