"""Reading long JSON documents while other threads keep running.

:mod:`json` lets no other thread run until it is done, which takes a large part of a second for a picture in base64 or
20 MB of infotexts. This module first cuts the strings out, by searches in C that are fast or bounded, and reads them in
pieces. The rest, a document with short numbers in place of the strings, is then read by :mod:`json` at once.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass, field
from json.decoder import JSONDecodeError, JSONDecoder

from latentd.errors import TooLarge

PIECE = 1 << 16
"""Bytes of a string that are read at once."""
#: Bytes that are searched first: most strings are short.
_FIRST_PIECE = 256
MOST_WIDE = 16 << 20
"""Most characters of a string that has others than ASCII: no picture has any, and widening copies the string."""
_GROUP = 16
"""Pieces that are joined before they are appended."""
_QUOTE, _SLASH = b'"', b"\\"
_LONGEST_ESCAPE = 6
_HIGH_SURROGATES = (b"d8", b"d9", b"da", b"db")
_UTF8 = "utf-8"
_BROKEN = "surrogatepass"
_UNTERMINATED = "Unterminated string starting at"
_READER = JSONDecoder()


def read_json(data: bytes | bytearray) -> object:
    """Return what ``json.loads(data)`` returns. The ``doc`` of an error ends soon after its position.

    :raises JSONDecodeError: ``data`` is no JSON.
    :raises UnicodeDecodeError: it is no UTF-8, UTF-16 or UTF-32.
    :raises RecursionError: it is nested too deeply.
    :raises TooLarge: a string of over :data:`MOST_WIDE` characters has others than ASCII.
    """
    start = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    if 0 in data[:4] or data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return json.loads(data)
    cut = _Cut(data, start)
    try:
        cut.run()
    except JSONDecodeError:
        # The document may have another error before the string that cannot be read; that one is reported.
        cut.parsed(cut_short=True)
        raise
    return _filled(cut.parsed(), cut.texts)


@dataclass(slots=True)
class _Cut:
    """A document, separated into its strings and its frame.

    :param position: byte at which to begin. :ivar quote: byte at which the text that is being read begins.
    :ivar frame: the document, each text in it replaced by its number, in pieces.
    :ivar texts: the texts by their numbers. :ivar ends: byte at which each ends in the document, behind its quote.
    """

    data: bytes | bytearray
    position: int
    quote: int = 0
    frame: list[bytes] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def run(self) -> None:
        """Separate the document; raises the errors of :func:`read_json`."""
        while (quote := self.data.find(_QUOTE, self.position)) >= 0:
            self.quote = quote
            self.frame.append(bytes(self.data[self.position : quote]) + b'"%d"' % len(self.texts))
            self.texts.append(self._text(quote + 1))
            self.ends.append(self.position)
        self.frame.append(bytes(self.data[self.position :]))

    def _text(self, start: int) -> str:
        """The string whose first byte is at ``start``; sets the position behind its closing quote."""
        end = self.data.find(_QUOTE, start)
        if 0 <= end <= start + PIECE and self.data.find(_SLASH, start, end) < 0:
            self.position = end + 1
            return self._read(start, end)
        text, pieces = "", list[str]()
        place, size = start, min(_FIRST_PIECE, PIECE)
        while True:
            end, closed = self._piece(place, size)
            pieces.append(self._read(place, end))
            if closed or len(pieces) == _GROUP:
                # Appending extends a long string where it is; joining all at once would block the other threads.
                text += "".join(pieces)
                pieces.clear()
                if len(text) > MOST_WIDE and not text.isascii():
                    raise TooLarge(f"a text of over {MOST_WIDE} characters is not ASCII", hint="send a shorter text")
            if closed:
                self.position = end + 1
                return text
            if end == place:
                raise self._broken(_UNTERMINATED, self.quote)
            place, size = end, min(4 * size, PIECE)

    def _piece(self, start: int, size: int) -> tuple[int, bool]:
        """(end, whether the text ends there) of the next piece of a text, cut beside escapes and characters.

        :param size: its bytes at most, at least those of an escaped pair of surrogates and one more.
        """
        # A pair of backslashes is complete in itself; a single one belongs to the byte behind it.
        piece = bytes(self.data[start : start + size]).replace(b"\\\\", b"__")
        quote = piece.replace(b'\\"', b"__").find(_QUOTE)
        if quote >= 0:
            return start + quote, True
        if len(piece) < size:
            return start + len(piece), False
        cut = len(piece)
        if (escape := piece.rfind(_SLASH, cut - _LONGEST_ESCAPE)) >= 0:
            cut = escape
        if piece[cut - 6 : cut - 4] == b"\\u" and piece[cut - 4 : cut - 2].lower() in _HIGH_SURROGATES:
            cut -= _LONGEST_ESCAPE
        while cut > 1 and piece[cut : cut + 1] and piece[cut] & 0xC0 == 0x80:
            cut -= 1
        if cut == len(piece):  # the next byte, which is not in the piece, may continue a character
            behind = self.data[start + cut : start + cut + 1]
            while cut > 1 and behind and behind[0] & 0xC0 == 0x80:
                cut -= 1
                behind = self.data[start + cut : start + cut + 1]
        return start + cut, False

    def _read(self, start: int, end: int) -> str:
        """The value of the bytes of a string, or of a piece of one."""
        text = bytes(self.data[start:end]).decode(_UTF8, _BROKEN)
        within_escape = bool(len(text) - len(text.rstrip("\\")) & 1)  # the document ends there
        whole = text[:-1] if within_escape else text
        try:
            read: str = _READER.parse_string(f'{whole}"', 0)[0]  # type: ignore[attr-defined]
        except JSONDecodeError as error:
            raise self._broken(error.msg, start + len(text[: error.pos].encode(_UTF8, _BROKEN))) from None
        if within_escape:
            raise self._broken(_UNTERMINATED, self.quote)
        return read

    def parsed(self, *, cut_short: bool = False) -> object:
        """The value of the frame; None if the frame is cut short behind its last string, and wrong only there.

        :raises JSONDecodeError: it is no JSON.
        """
        frame = b"".join(self.frame).decode(_UTF8, _BROKEN)
        try:
            return json.loads(frame)
        except JSONDecodeError as error:
            if cut_short and error.pos > frame.rindex('"', 0, -1):
                return None
            raise self._at(error.msg, error.pos) from None

    def _at(self, message: str, place: int) -> JSONDecodeError:
        """An error at a character of the frame, with its position in the document."""
        number = seen = 0
        for piece in self.frame[: len(self.texts)]:
            if place < seen + len(piece):
                break
            number, seen = number + 1, seen + len(piece)
        begin = self.ends[number - 1] if number else 0
        return self._broken(message, begin + place - seen)

    def _broken(self, message: str, place: int) -> JSONDecodeError:
        """An error at a byte of the document, with its position in characters."""
        before = bytes(self.data[:place]).decode(_UTF8, "replace")
        behind = bytes(self.data[place : place + PIECE]).decode(_UTF8, "replace")
        return JSONDecodeError(message, before + behind, len(before))


def _filled(value: object, texts: list[str]) -> object:
    """``value``, which the frame gave, with the strings in place of their numbers."""
    if isinstance(value, str):
        return texts[int(value)]
    if isinstance(value, list):
        return [_filled(entry, texts) for entry in value]
    if isinstance(value, dict):
        return {texts[int(key)]: _filled(entry, texts) for key, entry in value.items()}
    return value
