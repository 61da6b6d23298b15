"""What is said of each picture: the text beside it or its file's name, and the prompt made of that."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

import regex  # type: ignore[import-untyped]

from latentd.api import InvalidRequest, Services, TooLarge, read_regular
from latentd_training.folders import check_inside
from latentd_training.templates import NAME, WORDS

MAX_BYTES = 1 << 16
PATIENCE = 1.0
"""Seconds that the option's regular expression may take for one name."""
_NUMBERS = regex.compile(r"^[-\d]+\s*")


def caption_of(path: Path, services: Services) -> str:
    """The text of the ``.txt`` beside the picture ``path``; without that file, a text made of the picture's name.

    A number at the start of the name is removed, and options ``dataset_filename_word_regex`` and
    ``dataset_filename_join_string`` select its words and join them.

    :raises InvalidRequest: the option is no regular expression, or takes too long; the text is a link out.
    :raises OSError: the text is unreadable.
    :raises ValueError: the text is too long.
    """
    if (text := text_beside(path, services)) is not None:
        return text
    options = services.options
    name = _NUMBERS.sub("", readable(path.stem))
    pattern = str(options["dataset_filename_word_regex"])
    if not pattern:
        return str(name)
    try:
        words = regex.compile(pattern).findall(name, timeout=PATIENCE)
    except (regex.error, TimeoutError) as error:
        raise InvalidRequest(f"option dataset_filename_word_regex cannot be used: {error}") from error
    parts = ("".join(word) if isinstance(word, tuple) else word for word in words)
    return str(options["dataset_filename_join_string"]).join(parts)


def text_beside(path: Path, services: Services) -> str | None:
    """The text of the ``.txt`` beside the picture ``path``; None where there is none.

    :raises InvalidRequest: it is a link out of the folders for training.
    :raises OSError: it is unreadable. :raises ValueError: it is longer than :data:`MAX_BYTES`.
    """
    beside = path.with_suffix(".txt")
    if not os.path.lexists(beside):
        return None
    check_inside(services, beside)
    return read_regular(beside, MAX_BYTES).decode("utf-8", "replace").strip()


def readable(name: str) -> str:
    """``name`` of a file, with a question mark for each byte of it that is no text."""
    return name.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, kw_only=True)
class Prompter:
    """Makes prompts of captions. ``drop_out``: the share of tags, parted by commas, that are left out."""

    lines: Sequence[str]
    name: str
    shuffle: bool = False
    drop_out: float = 0.0

    @property
    def varies(self) -> bool:
        """Whether the same caption may give different prompts."""
        return self.shuffle or self.drop_out > 0 or len(self.lines) > 1

    def check(self, caption: str, services: Services) -> None:
        """Refuse a caption that would make prompts over the limit.

        :raises TooLarge: the longest of them is over ``--max-prompt-length``.
        """
        longest = max(length + words * len(caption) for words, length in self._lengths.items())
        if longest > (limit := services.settings.max_prompt_length):
            raise TooLarge(f"a prompt of {longest} characters is over the limit of {limit}", hint="--max-prompt-length")

    def prompt(self, caption: str, random: Random) -> str:
        """A prompt for ``caption`` from one of the lines."""
        line = random.choice(self.lines) if len(self.lines) > 1 else self.lines[0]
        tags = caption.split(",")
        if self.drop_out > 0:
            tags = [tag for tag in tags if random.random() > self.drop_out]
        if self.shuffle:
            random.shuffle(tags)
        return line.replace(WORDS, ",".join(tags)).replace(NAME, self.name)

    @cached_property
    def _lengths(self) -> dict[int, int]:
        """By the number of times that a line has the caption, the length of the longest such line without it."""
        found: dict[int, int] = {}
        for line in self.lines:
            words = line.count(WORDS)
            length = len(line.replace(WORDS, "").replace(NAME, self.name))
            found[words] = max(length, found.get(words, 0))
        return found
