"""What happens to a text before CLIP's tokenizers cut it into words."""

from __future__ import annotations

import html
import unicodedata

_QUOTES = str.maketrans(
    {**dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc", "'"), **dict.fromkeys("\u201c\u201d\u201e\u201f", '"')}
)
_LIGATURES = str.maketrans(
    {
        "\ufb00": "ff",
        "\ufb01": "fi",
        "\ufb02": "fl",
        "\ufb03": "ffi",
        "\ufb04": "ffl",
        "\ufb05": "\u017ft",
        "\ufb06": "st",
        "\u0133": "ij",
        "\u0132": "IJ",
    }
)
_WIDE = {code: unicodedata.normalize("NFKC", chr(code)) for code in (0x3000, *range(0xFF01, 0xFFF0))}
_IDEOGRAPHS = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


def clean_basic(text: str) -> str:
    """``text`` as BERT's basic tokenizer leaves it (accents and punctuation kept): what CLIP does without ftfy.

    Control and format characters go, white space becomes single spaces, ideographs stand alone, the rest is composed
    (NFC) and in lower case.
    """
    kept = "".join(_basic_character(character) for character in text)
    return " ".join(unicodedata.normalize("NFC", kept).lower().split())


def clean_fixed(text: str) -> str:
    """``text`` as CLIP with ftfy leaves well-formed text: quotes straight, ligatures and wide letters plain, NFC.

    Wrongly decoded text is not repaired. White space becomes single spaces, letters lower case.
    """
    fixed = text.translate(_QUOTES).translate(_LIGATURES).translate(_WIDE)
    kept = "".join(c for c in fixed if c.isspace() or unicodedata.category(c) not in {"Cc", "Cs"})
    return " ".join(unicodedata.normalize("NFC", kept).split()).lower()


def clean_open_clip(text: str) -> str:
    """``text`` as OpenCLIP's tokenizer leaves it: as :func:`clean_fixed`, with HTML entities resolved (twice)."""
    return clean_fixed(html.unescape(html.unescape(text)))


def _basic_character(character: str) -> str:
    category = unicodedata.category(character)
    if character in " \t\n\r" or category == "Zs":
        return " "
    if character == "\ufffd" or category.startswith("C"):
        return ""
    code = ord(character)
    return f" {character} " if any(low <= code <= high for low, high in _IDEOGRAPHS) else character
