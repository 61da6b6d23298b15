"""How an axis' values are read from text."""

from __future__ import annotations

import pytest
from latentd_scripts.xyz.values import MOST_VALUES, join_text, read_values, split_text

from latentd.api import InvalidRequest


@pytest.mark.parametrize(
    ("kind", "text", "values"),
    [
        (int, "1, 5,9", [1, 5, 9]),
        (int, "1-4", [1, 2, 3, 4]),
        (int, "1-7 (+3)", [1, 4, 7]),
        (int, "7-1 (-3)", [7, 4]),
        (int, "2-6 [3]", [2, 4, 6]),
        (int, "1-10 [4], 99", [1, 4, 7, 10, 99]),
        (float, "0-1 (+0.5)", [0.0, 0.5, 1.0]),
        (float, "1-2 [3]", [1.0, 1.5, 2.0]),
        (float, "7.5,", [7.5]),
        (str, 'red, "a, b"', ["red", "a, b"]),
        (tuple, "a,b", [("a", "b"), ("b", "a")]),
    ],
)
def test_values(kind: type, text: str, values: list[object]) -> None:
    assert read_values(kind, split_text(text), "axis") == values


@pytest.mark.parametrize(
    ("kind", "text"),
    [(int, "many"), (float, "1-2 (+0)"), (int, "1-1000000000"), (int, f"1-9 [{MOST_VALUES * 9}]"), (int, ""),
     (tuple, "a,b,c,d,e,f,g,h,i,j"), (int, f"1-1{'0' * 400}"), (float, f"1-1{'0' * 400}"),
     (int, f"1-1{'0' * 400} [5]"), (int, f"1{'0' * 30}-1 (-1)")],
)  # fmt: skip
def test_what_cannot_be_read_or_is_too_much_is_refused(kind: type, text: str) -> None:
    with pytest.raises(InvalidRequest):
        read_values(kind, split_text(text), "axis")


def test_lists_survive_a_line() -> None:
    entries = ["Euler a", "with, comma", 'with "quotes"']
    assert split_text(join_text(entries)) == entries
