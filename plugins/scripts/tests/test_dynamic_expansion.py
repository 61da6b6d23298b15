"""Templates: what they become, and what they may cost.

``recorded_texts.json`` has the texts that the library dynamicprompts 0.31.0 makes of templates and seeds, one picture
each, and its combinations in order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from latentd_scripts.dynamic.expansion import Entries, Expansion
from latentd_scripts.dynamic.grammar import MOST_DEPTH, is_template, parse

from latentd.api import InvalidRequest, LatentdError, TooLarge

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded_texts.json").read_text())
SEEDS = (0, 1, 7, 4294967293)
LONGEST = 20_000


class Lists:
    """Lists in memory, by their full names; ``3::text`` has the weight 3."""

    def __init__(self, lists: Mapping[str, Sequence[str]]) -> None:
        self._lists = lists

    def now(self) -> Lists:
        return self

    def entries(self, name: str) -> Entries:
        items = self._lists.get(name, [])
        pairs = [item.split("::") if "::" in item else ("1", item) for item in items]
        pairs.sort(key=lambda pair: pair[1])
        weights = [float(weight) for weight, _ in pairs]
        return Entries([text for _, text in pairs], weights if len(set(weights)) > 1 else None)


def expansion(lists: Mapping[str, Sequence[str]] | None = None) -> Expansion:
    return Expansion(Lists(RECORDED["lists"] if lists is None else lists), longest=LONGEST)


@pytest.mark.parametrize("template", RECORDED["texts"])
def test_a_seed_draws_the_text_that_it_drew_in_the_original(template: str) -> None:
    assert [expansion().draw(template, seed) for seed in SEEDS] == RECORDED["texts"][template]


@pytest.mark.parametrize("template", RECORDED["combinations"])
def test_combinations_are_the_originals_in_its_order(template: str) -> None:
    assert list(islice(expansion().combinations(template, 0), 40)) == RECORDED["combinations"][template]


def test_every_option_comes_as_often_as_its_weight_says() -> None:
    texts = [expansion().draw("{3::a|b|0::c}", seed) for seed in range(2000)]
    assert texts.count("c") == 0
    assert 0.7 < texts.count("a") / len(texts) < 0.8


def test_several_of_weighted_options_differ() -> None:
    texts = [expansion().draw("{2$$ $$9::a|b|c}", seed) for seed in range(300)]
    assert all(len(set(text.split())) == 2 for text in texts)
    assert sum("a" in text for text in texts) > 270


def test_options_take_turns_with_the_seed() -> None:
    assert [expansion().draw("{@a|b|c} __@c__", seed) for seed in range(4)] == ["a blue", "b green", "c red", "a blue"]


def test_marked_choices_are_no_combinations() -> None:
    texts = list(expansion().combinations("{a|b} {@x|y} {~p|q}", 5))
    assert [text[0] for text in texts] == ["a", "b"]
    assert [text[2] for text in texts] == ["x", "y"]


@pytest.mark.parametrize(
    "text",
    ["a } b | c", "costs $5 and 5%", "one_two __ three", "(x:1.2) [a:b:0.5]", "<lora:one_two:1>", "____", "#1 of many"],
)
def test_what_is_no_template_stays(text: str) -> None:
    assert is_template(text) is ("__" in text and text.count("__") > 1)
    assert "#" in text or expansion().draw(text, 1) == text


def test_an_unknown_list_stays_and_is_named() -> None:
    found = expansion()
    assert found.draw("<lora:my__own__file:1> __{a|a}b(x=1)__", 3) == "<lora:my__own__file:1> __{a|a}b(x=1)__"
    assert list(found.missing) == ["own", "ab"]


def test_variables_are_expanded_once_or_every_time() -> None:
    once = {expansion().draw("${s=!{a|b}}${s}${s}", seed) for seed in range(40)}
    every_time = {expansion().draw("${s={a|b}}${s}${s}", seed) for seed in range(40)}
    assert once == {"aa", "bb"}
    assert every_time == {"aa", "ab", "ba", "bb"}


def test_a_variable_that_is_set_may_stay() -> None:
    lists = {"p": ["${s?=winter}${t=late}${t} ${s}"]}
    assert expansion(lists).draw("${s=summer}__p__, __p(s=spring)__", 0) == "late summer, late spring"
    assert expansion(lists).draw("__p__", 0) == "late winter"


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["{a|b", "x ${s=a", "%{a", "${unset}", "${s=${s}}${s}", "{0::a|0::b}", "%{a}"])
def test_what_cannot_be_read_is_refused(template: str) -> None:
    with pytest.raises(InvalidRequest, match="prompt template"):
        expansion().draw(template, 1)


def _doubled(mark: str) -> str:
    return "${v0=xy}" + "".join(f"${{v{n}={mark}${{v{n - 1}}}${{v{n - 1}}}}}" for n in range(1, 39)) + "${v38}"


@pytest.mark.parametrize(
    ("template", "lists"),
    [
        ("{a|" * 3000 + "b" + "}" * 3000, {}),
        ("{" * LONGEST, {}),
        ("%{" * 5000, {}),
        ("${a:" * 5000, {}),
        ("__self__", {"self": ["__self__ __self__"]}),
        ("__a__", {"a": ["__b__"] * 2, "b": ["{__a__|__a__}"]}),
        (_doubled(""), {}),
        (_doubled("!"), {}),
        ("__long__" * 2000, {"long": ["word " * 100]}),
        ("{100000$$__big__}", {"big": [f"entry {n}" for n in range(50_000)]}),
        ("{2$$" * 30 + "a|b" + "}" * 30 + "{c|d}" * 3000 + "{", {}),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_would_cost_too_much_is_refused_soon(template: str, lists: dict[str, list[str]]) -> None:
    start = time.process_time()
    with pytest.raises((InvalidRequest, TooLarge)):
        expansion(lists).draw(template, 1)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "text", ["_" * LONGEST, "__a" * 6000, "__a(" * 5000, "__{a" * 4, "{}" * 9000, "$" * 9000, "__" + "a_" * 9000]
)
def test_odd_texts_are_read_soon(text: str) -> None:
    start = time.process_time()
    with suppress(InvalidRequest):
        parse(text)
    assert time.process_time() - start < 1


def test_combinations_come_one_by_one_and_not_forever() -> None:
    assert len(list(islice(expansion().combinations("{a|b|c|d}" * 20, 0), 100))) == 100
    start = time.process_time()
    with pytest.raises(TooLarge):
        list(expansion().combinations("{a|a}" * 40, 0))
    assert time.process_time() - start < 5


def test_a_request_pays_for_all_of_its_texts_together() -> None:
    found = expansion()
    with pytest.raises(TooLarge):
        [found.draw("{a|b|c}" * 1000, seed) for seed in range(1000)]


# --- properties ------------------------------------------------------------------------------------------------------

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies
given: Callable[..., Any] = hypothesis.given
tries = hypothesis.settings(max_examples=120, deadline=None, derandomize=True, database=None)
_MARKS = [
    "{",
    "}",
    "|",
    "__",
    "_",
    "$$",
    "${",
    "%{",
    "=",
    ":",
    "::",
    "!",
    "~",
    "@",
    "2",
    "1-2",
    "#",
    "\n",
    "c",
    "w",
    " ",
    "...",
]
ANY = st.lists(st.one_of(st.sampled_from(_MARKS), st.text(max_size=2)), max_size=40).map("".join)
PLAIN = st.text(st.characters(exclude_characters="{}|_$%#", exclude_categories=["Cs"]), max_size=8)


@tries
@given(ANY, st.integers(0, 2**32))
def test_any_text_expands_the_same_twice_or_is_refused(text: str, seed: int) -> None:
    def outcome() -> str:
        try:
            return expansion().draw(text, seed)
        except LatentdError as error:
            return error.detail

    assert outcome() == outcome()


def _rendered(tree: Any) -> str:
    return tree if isinstance(tree, str) else "{" + "|".join(map(_rendered, tree)) + "}"


def _texts(tree: Any) -> set[str]:
    return {tree} if isinstance(tree, str) else set().union(*map(_texts, tree))


WORDS = st.text("abc", min_size=1, max_size=2)
TREES = st.recursive(WORDS, lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=8)


@tries
@given(TREES, TREES, st.integers(0, 1000))
def test_the_combinations_are_all_texts_and_every_draw_is_one_of_them(first: Any, second: Any, seed: int) -> None:
    template = f"{_rendered(first)}-{_rendered(second)}"
    wanted = {f"{a}-{b}" for a in _texts(first) for b in _texts(second)}
    texts = list(expansion().combinations(template, 0))
    assert sorted(texts) == sorted(wanted)
    assert expansion().draw(template, seed) in wanted


@tries
@given(
    st.lists(PLAIN.map(str.strip).filter(bool), min_size=1, max_size=6, unique=True),
    st.integers(1, 8),
    st.integers(0, 99),
)
def test_several_options_are_different_ones(words: list[str], count: int, seed: int) -> None:
    words = [word for word in words if "::" not in word and "$$" not in word]
    hypothesis.assume(words and not words[0][0].isdigit() and words[0][0] not in "~@!-.")
    text = expansion().draw(f"{{{count}$$;;$${'|'.join(words)}}}", seed)
    parts = [words[0]] if len(words) == 1 else text.split(";;")
    if ";" not in "".join(words):
        assert len(parts) == min(count, len(words))
        assert sorted(set(parts)) == sorted(parts)
        assert set(parts) <= set(words)


@tries
@given(st.integers(1, MOST_DEPTH - 1))
def test_groups_within_the_bound_are_read(depth: int) -> None:
    assert expansion().draw("{" * depth + "a" + "}" * depth, 0) == "a"
