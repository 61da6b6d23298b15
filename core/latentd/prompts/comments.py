"""Comments in prompts (AUTOMATIC1111 1.7 and later; option ``enable_prompt_comments``)."""

from __future__ import annotations

import re

_WHOLE_LINE = re.compile(r"(^|\n)#[^\n]*(\n|$)")
_REST_OF_LINE = re.compile(r"#[^\n]*(\n|$)")


def strip_comments(prompt: str) -> str:
    """``prompt`` without the text from each ``#`` to the end of its line; a ``#`` cannot be escaped.

    A line that is only a comment is removed with its line breaks; one line break stays in its place.
    """
    return _REST_OF_LINE.sub("\n", _WHOLE_LINE.sub("\n", prompt))
