"""What happens to a text before CLIP's tokenizers cut it into words."""

from __future__ import annotations

import html
import re
import unicodedata

#: Longest run of combining marks that is put in canonical order at once; Unicode's stream-safe text has at most 30.
MOST_MARKS = 256

_LONG_NUMBER = re.compile(r"&#(?:\d{8,}|[xX][0-9a-fA-F]{8,});?")

_QUOTES = str.maketrans(
    {**dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc", "'"), **dict.fromkeys("\u201c\u201d\u201e\u201f", '"')}
)
_LIGATURES = {
    code: unicodedata.normalize("NFKC", chr(code))
    for code in (0x0132, 0x0133, 0x0149, *range(0x01C4, 0x01CD), 0x01F1, 0x01F2, 0x01F3, *range(0xFB00, 0xFB07))
}
_INVISIBLE = dict.fromkeys([*range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD)])
_WIDE = {code: unicodedata.normalize("NFKC", chr(code)) for code in (0x3000, *range(0xFF01, 0xFFF0))}


def clean_clip(text: str) -> str:
    """``text`` cleaned as CLIP's own tokenizer does it with the library ftfy.

    Quotes become straight, ligatures and wide letters plain; control characters go; letters are composed (NFC) and in
    lower case; each run of white space becomes one space. Wrongly decoded text is not repaired, unlike by ftfy.
    """
    fixed = text.translate(_INVISIBLE).translate(_LIGATURES).translate(_QUOTES).translate(_WIDE)
    kept = "".join(c for c in fixed if c.isspace() or unicodedata.category(c) not in {"Cc", "Cs"})
    return " ".join(_composed(kept).split()).lower()


def _composed(text: str) -> str:
    """``text`` in NFC.

    Ordering a run of marks takes time in its length squared, so runs longer than any language's are composed in parts.
    """
    if text.isascii():
        return text
    parts, start, marks = [], 0, 0
    for place, character in enumerate(text):
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > MOST_MARKS:
            parts.append(unicodedata.normalize("NFC", text[start:place]))
            start, marks = place, 0
    parts.append(unicodedata.normalize("NFC", text[start:]))
    return "".join(parts)


def clean_open_clip(text: str) -> str:
    """``text`` cleaned as OpenCLIP's tokenizer does it: :func:`clean_clip`, and HTML entities are resolved (twice)."""
    return clean_clip(_unescaped(_unescaped(text)))


def _unescaped(text: str) -> str:
    # Python refuses to read integers of 5000 digits; no character's number has more than seven.
    return html.unescape(_LONG_NUMBER.sub("\ufffd", text))
