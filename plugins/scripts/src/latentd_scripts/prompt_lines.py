"""Lines of prompts: each is a prompt, or options as on a command line: ``--prompt "a cat" --steps 20``."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from latentd.api import InvalidRequest, JsonValue, near_matches

#: Options, with the function that reads their text. Options without a function are accepted and ignored: requests do
#: not decide where files are written.
FIELDS: dict[str, Callable[[str], JsonValue] | None] = {
    "sd_model": str,
    "outpath_samples": None,
    "outpath_grids": None,
    "prompt_for_display": None,
    "styles": lambda text: tuple(name.strip() for name in text.split(",") if name.strip()),
    "seed": int,
    "subseed_strength": float,
    "subseed": int,
    "seed_resize_from_h": int,
    "seed_resize_from_w": int,
    "sampler_index": str,
    "sampler_name": str,
    "batch_size": int,
    "n_iter": int,
    "steps": int,
    "cfg_scale": float,
    "width": int,
    "height": int,
    "restore_faces": lambda text: text == "true",
    "tiling": lambda text: text == "true",
    "do_not_save_samples": lambda text: text == "true",
    "do_not_save_grid": None,
}
_PROMPTS = ("prompt", "negative_prompt")


def read_line(line: str) -> dict[str, JsonValue]:
    """The fields in ``line``; a line without ``--`` is a prompt.

    :raises InvalidRequest: an option is unknown, has no value, or its value cannot be read.
    """
    if "--" not in line:
        return {"prompt": line}
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise InvalidRequest(f"line {line!r}: {error}") from error
    found: dict[str, JsonValue] = {}
    while words:
        name, words = _option(words[0], line), words[1:]
        count = _length(words) if name in _PROMPTS else 1
        if not words or count == 0:
            raise InvalidRequest(f"line {line!r}: --{name} has no value")
        value, words = " ".join(words[:count]), words[count:]
        _read(name, value, found, line)
    return found


def _option(word: str, line: str) -> str:
    name = word[2:]
    if not word.startswith("--") or (name not in FIELDS and name not in _PROMPTS):
        raise InvalidRequest(f"line {line!r}: unknown option {word!r}", hint=near_matches(name, [*FIELDS, *_PROMPTS]))
    return name


def _length(words: list[str]) -> int:
    """How many words belong to a prompt: up to the next option."""
    return next((n for n, word in enumerate(words) if word.startswith("--")), len(words))


def _read(name: str, value: str, found: dict[str, JsonValue], line: str) -> None:
    if name in _PROMPTS:
        found[name] = value
    elif (read := FIELDS[name]) is not None:
        try:
            found[name] = read(value)
        except ValueError as error:
            raise InvalidRequest(f"line {line!r}: --{name} {value!r} is no number") from error
