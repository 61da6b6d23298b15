"""Styles: named texts that wrap a prompt. What they do to prompts, and how they are found again in one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from latentd.errors import TooLarge

_PLACE = "{prompt}"
MAX_LENGTH = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """A row of a styles file. Dividers between files have no prompts; ``path`` is the file it came from."""

    name: str
    prompt: str | None = ""
    negative_prompt: str | None = ""
    path: str | None = None


def apply_style_text(style_text: str, prompt: str) -> str:
    """``style_text`` with ``prompt`` in place of every ``{prompt}``; without one, both trimmed and joined by a comma.

    :raises TooLarge: the text would be longer than :data:`MAX_LENGTH` characters. A few styles that repeat the prompt
        are enough for that.
    """
    if places := style_text.count(_PLACE):
        if len(style_text) + places * len(prompt) > MAX_LENGTH:
            raise TooLarge(f"the styles make a prompt of over {MAX_LENGTH} characters", hint="name fewer of them")
        return style_text.replace(_PLACE, prompt)
    return ", ".join(part for part in (prompt.strip(), style_text.strip()) if part)


def apply_styles(
    prompt: str, negative_prompt: str, names: Iterable[str], styles: Mapping[str, Style]
) -> tuple[str, str]:
    """The prompt and the negative prompt after the styles ``names``, in order.

    An unknown name is an empty style, which trims the texts and does nothing else.
    """
    for name in names:
        style = styles.get(name)
        prompt = apply_style_text((style.prompt if style else None) or "", prompt)
        negative_prompt = apply_style_text((style.negative_prompt if style else None) or "", negative_prompt)
    return prompt, negative_prompt


def extract_styles(prompt: str, negative_prompt: str, styles: Iterable[Style]) -> tuple[list[str], str, str]:
    """Names of the styles found in both texts, in the order in which they were applied, and the texts without them.

    A style is found if its prompt wraps or ends the prompt, and its negative prompt wraps or ends the negative prompt.
    Empty styles are never found. Styles are removed one by one, outermost first.
    """
    left = list(styles)
    names: list[str] = []
    while True:
        for style in left:
            found = _without(style, prompt, negative_prompt)
            if found is not None:
                break
        else:
            return names[::-1], prompt, negative_prompt
        prompt, negative_prompt = found
        left.remove(style)
        names.append(style.name)


def _without(style: Style, prompt: str, negative_prompt: str) -> tuple[str, str] | None:
    if not style.prompt and not style.negative_prompt:
        return None
    positive = _without_text(style.prompt or "", prompt)
    negative = _without_text(style.negative_prompt or "", negative_prompt)
    return None if positive is None or negative is None else (positive, negative)


def _without_text(style_text: str, text: str) -> str | None:
    text, style_text = text.strip(), style_text.strip()
    left, place, right = style_text.partition(_PLACE)
    if place:
        fits = text.startswith(left) and text.endswith(right) and len(text) >= len(left) + len(right)
        return text[len(left) : len(text) - len(right)] if fits else None
    if not text.endswith(style_text):
        return None
    return text[: len(text) - len(style_text)].removesuffix(", ")
