"""Comments in prompts (AUTOMATIC1111 1.7 and later; option ``enable_prompt_comments``)."""

from __future__ import annotations

import re

_WHOLE_LINE = re.compile(r"(^|\n)#[^\n]*(\n|$)")
_REST_OF_LINE = re.compile(r"#[^\n]*(\n|$)")


def strip_comments(prompt: str) -> str:
    """``prompt`` without what stands between a ``#`` and the end of its line; there is no way to escape one.

    A line that is nothing but a comment goes together with its line breaks, leaving one.
    """
    return _REST_OF_LINE.sub("\n", _WHOLE_LINE.sub("\n", prompt))
