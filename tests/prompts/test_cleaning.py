from __future__ import annotations

import pytest

from latentd.prompts.cleaning import clean_clip, clean_open_clip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  A\tRed\n\nCircle ", "a red circle"),
        ("“curly” it’s", '"curly" it\'s'),
        ("ﬁne ﬂow", "fine flow"),
        ("ｗｉｄｅ　ｌｅｔｔｅｒｓ", "wide letters"),
        ("cafe\u0301", "café"),
        ("a\x00b\x07", "ab"),
        ("un cercle rougé 赤い円 🔴", "un cercle rougé 赤い円 🔴"),
        ("&lt;b&gt;", "&lt;b&gt;"),
    ],
)
def test_clip(text: str, expected: str) -> None:
    assert clean_clip(text) == expected


def test_open_clip_resolves_entities_twice() -> None:
    assert clean_open_clip("A &amp;lt; B") == "a < b"
