from __future__ import annotations

import pytest

from latentd.prompts.composition import split_composition


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat", [("a cat", 1.0)]),
        (
            "a red circle :1.2 AND a yellow square :0.4 AND a black background :-0.3",
            [("a red circle", 1.2), (" a yellow square", 0.4), (" a black background", -0.3)],
        ),
        ("a AND b", [("a", 1.0), (" b", 1.0)]),
        ("SAND AND ANDES and x", [("SAND", 1.0), (" ANDES and x", 1.0)]),
        ("a cat:1.5", [("a cat", 1.5)]),
        ("a cat: +.5  ", [("a cat", 0.5)]),
        ("(a cat:1.5)", [("(a cat:1.5)", 1.0)]),
        ("a: b:c", [("a: b:c", 1.0)]),
        ("line\none :2. AND", [("line\none", 2.0), ("", 1.0)]),
        ("", [("", 1.0)]),
    ],
)
def test_parts_and_weights(prompt: str, expected: list[tuple[str, float]]) -> None:
    assert [(part.text, part.weight) for part in split_composition(prompt)] == expected
