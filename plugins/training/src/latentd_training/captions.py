"""What is said of each picture: the text beside it or its file's name, and the prompt made of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import regex  # type: ignore[import-untyped]

from latentd.api import InvalidRequest, Options, read_regular
from latentd_training.templates import NAME, WORDS

MAX_BYTES = 1 << 16
PATIENCE = 1.0
"""Seconds that the option's regular expression may take for one name."""
_NUMBERS = regex.compile(r"^[-\d]+\s*")


def caption_of(path: Path, options: Options) -> str:
    """The text of the ``.txt`` beside the picture ``path``; without that file, a text made of the picture's name.

    A number at the start of the name is removed, and options ``dataset_filename_word_regex`` and
    ``dataset_filename_join_string`` select its words and join them.

    :raises InvalidRequest: the option is no regular expression, or takes too long.
    :raises OSError: the text is unreadable.
    :raises ValueError: the text is too long.
    """
    text_file = path.with_suffix(".txt")
    if text_file.exists():
        return read_text(text_file)
    name = _NUMBERS.sub("", path.stem)
    pattern = str(options["dataset_filename_word_regex"])
    if not pattern:
        return str(name)
    try:
        words = regex.compile(pattern).findall(name, timeout=PATIENCE)
    except (regex.error, TimeoutError) as error:
        raise InvalidRequest(f"option dataset_filename_word_regex cannot be used: {error}") from error
    parts = ("".join(word) if isinstance(word, tuple) else word for word in words)
    return str(options["dataset_filename_join_string"]).join(parts)


def read_text(path: Path) -> str:
    """The text file ``path``, at most :data:`MAX_BYTES` of it.

    :raises OSError: it is unreadable. :raises ValueError: it is longer.
    """
    return read_regular(path, MAX_BYTES).decode("utf-8", "replace").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
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

    def prompt(self, caption: str, random: Random) -> str:
        """A prompt for ``caption`` from one of the lines."""
        line = random.choice(self.lines) if len(self.lines) > 1 else self.lines[0]
        tags = caption.split(",")
        if self.drop_out > 0:
            tags = [tag for tag in tags if random.random() > self.drop_out]
        if self.shuffle:
            random.shuffle(tags)
        return line.replace(WORDS, ",".join(tags)).replace(NAME, self.name)
