from __future__ import annotations

import pytest

from latentd.prompts.comments import strip_comments


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("no comment", "no comment"),
        ("a cat # on a mat", "a cat \n"),
        ("a\n# whole line\nb", "a\nb"),
        ("# first\nb", "\nb"),
        ("a # one\nb # two", "a \nb \n"),
        (r"a \# b", "a \\\n"),
    ],
)
def test_comments_end_with_their_line(prompt: str, expected: str) -> None:
    assert strip_comments(prompt) == expected
