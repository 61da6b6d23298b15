"""Script arguments: lists by position, objects by name, and the rows of ``/script-info``."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from latentd.arguments import beyond, parse_exact, parse_positional
from latentd.errors import InvalidRequest
from latentd.generations import Script
from latentd.plugins.script_info import script_info


class Args(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    strength: float = Field(0.5, title="How strong", ge=0, le=1, json_schema_extra={"step": 0.05})
    where: Literal["start", "end"] = "start"
    px_margin: int = Field(0, multiple_of=2)


class Marker(Script):
    title = "Mark It"
    Args = Args


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, (0.5, "start", 0)),
        ([], (0.5, "start", 0)),
        ([1], (1.0, "start", 0)),
        ([1, "end", 4, "too", "much"], (1.0, "end", 4)),
        ({"where": "end", "unknown": 1}, (0.5, "end", 0)),
    ],
)
def test_what_is_missing_keeps_its_default_and_what_is_too_much_is_dropped(
    given: Any, expected: tuple[float, str, int]
) -> None:
    args = parse_positional(Args, given)
    assert (args.strength, args.where, args.px_margin) == expected


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, []),
        ([1, "end", 4], []),
        ([1, "end", 4, "too", "much"], ["arguments after the first 3"]),
        ({"where": "end", "px_margin": 1}, []),
        ({"where": "end", "unknown": 1, 5: 2}, ["argument 'unknown'", "argument '5'"]),
        ({"x" * 1000: 1}, [f"argument '{'x' * 100}'"]),
    ],
)
def test_what_is_too_much_is_told(given: Any, told: list[str]) -> None:
    assert Marker().ignored_args(given, None) == told


def test_a_bad_value_names_its_argument() -> None:
    with pytest.raises(ValidationError) as refused:
        parse_positional(Args, [0.5, "middle"])
    assert refused.value.errors()[0]["loc"] == ("where",)


@pytest.mark.parametrize("given", ["text", 5])
def test_neither_list_nor_object_is_refused(given: Any) -> None:
    with pytest.raises(InvalidRequest):
        parse_positional(Args, given)


@pytest.mark.parametrize("given", [[1], [1, "end", 2, 3]])
def test_a_selectable_script_wants_every_argument_of_a_list(given: list[Any]) -> None:
    with pytest.raises(InvalidRequest, match="takes 3 arguments") as refused:
        parse_exact(Args, given, title="Mark It")
    assert refused.value.hint == "in this order: strength, where, px_margin"


@pytest.mark.parametrize("given", [[], None, {"where": "end"}, [0, "end", 2]])
def test_a_selectable_script_takes_nothing_an_object_or_all(given: Any) -> None:
    assert parse_exact(Args, given, title="Mark It").px_margin in (0, 2)


def test_the_row_of_script_info_comes_from_the_model() -> None:
    absent = {"minimum": None, "maximum": None, "step": None, "choices": None}
    assert script_info(Marker(), "img2img") == {
        "name": "mark it",
        "is_alwayson": False,
        "is_img2img": True,
        "args": [
            {"label": "How strong", "value": 0.5, "minimum": 0, "maximum": 1, "step": 0.05, "choices": None},
            {**absent, "label": "Where", "value": "start", "choices": ["start", "end"]},
            {**absent, "label": "Px margin", "value": 0, "step": 2},
        ],
    }


@pytest.mark.parametrize("args", [True, 3, 0.5])
def test_what_is_neither_a_list_nor_an_object_is_told(args: Any) -> None:
    """Scripts that take anything do not parse it; an ``args: true`` was a 500."""
    assert beyond(Args, args) == [f"arguments that are neither a list nor an object ({type(args).__name__})"]
