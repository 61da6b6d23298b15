"""Values become the type of the default; what cannot is refused with the option named."""

from __future__ import annotations

from typing import Any

import pytest

from latentd.contributions import OptionSpec
from latentd.errors import InvalidRequest
from latentd.options.coerce import coerce


def spec(default: Any, **facets: Any) -> OptionSpec:
    return OptionSpec(key="some_key", default=default, help="a test", **facets)


@pytest.mark.parametrize(
    ("default", "given", "expected"),
    [
        (False, "true", True),
        (True, "off", False),
        (True, 0, False),
        (5, "7", 7),
        (5, 7.9, 7),
        (5, True, 1),
        (0.5, "0.25", 0.25),
        (0.5, 1, 1.0),
        ("a", 3, "3"),
        ("a", True, "true"),
        ([], "x, y", ["x", "y"]),
        ([], ("x",), ["x"]),
        (5, None, 5),
        ("a", None, "a"),
    ],
)
def test_a_value_takes_the_type_of_the_default(default: Any, given: Any, expected: Any) -> None:
    value = coerce(spec(default), given)
    assert (type(value), value) == (type(expected), expected)


def test_numbers_are_clamped() -> None:
    limited = spec(3, minimum=1, maximum=12)
    assert [coerce(limited, value) for value in (-5, 0, 5, 10**30)] == [1, 1, 5, 12]


@pytest.mark.parametrize(
    ("default", "given"),
    [
        (1, "two"),
        (1, [1]),
        (1.0, float("nan")),
        (1.0, float("inf")),
        (1, 10**400),
        (True, "perhaps"),
        (True, {}),
        ("a", ["a"]),
        ([], 5),
        ([], {"a": 1}),
        (["a"], [["a"]]),
        ([], [{}]),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(default: Any, given: Any) -> None:
    with pytest.raises(InvalidRequest, match="some_key"):
        coerce(spec(default), given)


def test_choices_are_matched_regardless_of_case_and_refused_with_near_matches() -> None:
    chosen = spec("Full", choices=("Full", "TAESD"))
    assert coerce(chosen, "taesd") == "TAESD"
    with pytest.raises(InvalidRequest) as refused:
        coerce(chosen, "TAESDD")
    assert refused.value.hint == "did you mean 'TAESD'?"


def test_choices_known_at_run_time_only_are_not_checked_here() -> None:
    assert coerce(spec("None", choices=lambda: ["None"]), "later.safetensors") == "later.safetensors"


def test_null_stays_null_where_the_option_can_be_null() -> None:
    assert coerce(spec(None, nullable=True), None) is None
    assert coerce(spec(None, nullable=True), "x") == "x"


def test_a_long_value_is_not_echoed_whole() -> None:
    with pytest.raises(InvalidRequest) as refused:
        coerce(spec(1), "x" * 100_000)
    assert len(refused.value.detail) < 200
