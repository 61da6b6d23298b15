"""CLIP's byte-pair tokenizer over the bundled merges."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from latentd.prompts.cleaning import clean_clip, clean_open_clip

if TYPE_CHECKING:
    from tokenizers.models import BPE

if TYPE_CHECKING:
    from tokenizers.models import BPE

if TYPE_CHECKING:
    from tokenizers.models import BPE

if TYPE_CHECKING:
    from tokenizers.models import BPE

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_END_OF_WORD = "</w>"


class ClipTokenizer:
    """Text → token ids, without start and end token; satisfies :class:`latentd.prompts.chunks.Tokenizer`.

    "a photo of an astronaut" is [320, 1125, 539, 550, 18376]. The vocabulary is read when first needed.

    :param pad_id: the token that fills a chunk after its first end token; the end token if None.
    :param clean: applied to a text before it is cut into words.
    :param special: how a prompt spells out the start and the end token.
    """

    start_id = 49406
    end_id = 49407
    comma_id = 267

    def __init__(
        self,
        *,
        pad_id: int | None = None,
        clean: Callable[[str], str] = clean_clip,
        special: tuple[str, str] = ("<|startoftext|>", "<|endoftext|>"),
    ) -> None:
        self.pad_id = self.end_id if pad_id is None else pad_id
        self._clean = clean
        self._special = dict(zip(special, (self.start_id, self.end_id), strict=True))
        self._word = lru_cache(maxsize=8192)(self._encode_word)

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``: any number of them, none for white space."""
        ids: list[int] = []
        for word in _pattern(tuple(self._special)).findall(self._clean(text)):
            ids += self._word(word)
        return ids

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Id of every token, written in the byte alphabet of the merges; without the special tokens."""
        return _vocabulary()

    @property
    def merges(self) -> Sequence[tuple[str, str]]:
        """Pairs of neighbouring symbols, in the order in which they are joined."""
        return _merges()

    def _encode_word(self, word: str) -> tuple[int, ...]:
        special = self._special.get(word.lower())
        if special is not None:
            return (special,)
        alphabet = _alphabet()
        letters = "".join(alphabet[byte] for byte in word.encode("utf-8", "replace"))
        return tuple(token.id for token in _pairs().tokenize(letters))


def clip_tokenizer() -> ClipTokenizer:
    """The tokenizer of SD 1.x and of SDXL's CLIP-L: chunks are padded with the end token."""
    return ClipTokenizer()


def open_clip_tokenizer() -> ClipTokenizer:
    """The tokenizer of SD 2.x and of SDXL's OpenCLIP bigG: chunks are padded with id 0."""
    return ClipTokenizer(pad_id=0, clean=clean_open_clip, special=("<start_of_text>", "<end_of_text>"))


@cache
def _pairs() -> BPE:
    """The byte-pair model; its time is proportional to a word's length."""
    from tokenizers.models import BPE

    return BPE(dict(_vocabulary()), list(_merges()), end_of_word_suffix=_END_OF_WORD, cache_capacity=0)


@cache
def _pattern(special: tuple[str, str]) -> Any:  # regex has no types
    import regex  # type: ignore[import-untyped]

    return regex.compile("|".join([*map(regex.escape, special), _WORDS]), regex.IGNORECASE)


@cache
def _alphabet() -> tuple[str, ...]:
    """A printable character for every byte: the byte's own in Latin-1 if that is printable, else one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return tuple(chr(byte if byte in printable else 256 + others.index(byte)) for byte in range(256))


@cache
def _merges() -> Sequence[tuple[str, str]]:
    """Pairs of neighbouring symbols, in the order in which they are joined."""
    packed = files("latentd.prompts").joinpath("data", "clip_merges.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").splitlines()
    return [(left, right) for left, right in (line.split(" ") for line in lines)]


@cache
def _vocabulary() -> Mapping[str, int]:
    alphabet = _alphabet()
    printable = sorted(alphabet, key=lambda character: (ord(character) > 0xFF, ord(character)))
    tokens = [*printable, *(c + _END_OF_WORD for c in printable), *(left + right for left, right in _merges())]
    return {token: ident for ident, token in enumerate(tokens)}
