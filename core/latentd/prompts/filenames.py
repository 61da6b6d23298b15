"""Names of saved files: patterns such as ``[seed]-[prompt_spaces]``."""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from zoneinfo import ZoneInfo

_PATTERN = re.compile(r"(.*?)(?:\[([^\[\]]+)\]|$)", re.DOTALL)
_NOT_LETTERS = re.compile(rf"[\s{re.escape(string.punctuation)}]+")
_FORBIDDEN = '#<>:"/\\|?*\n\r\t'
_TIME = "%Y%m%d%H%M%S"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContext:
    """Everything a pattern may name, for one image.

    :param now: an aware or local time; ``[date]`` and ``[datetime]`` read it.
    :param seeds: the seeds of all images of the job.
    :param styles: names of the job's styles, and ``style_prompts`` their positive texts, for ``[prompt_no_styles]``.
    :param batch_index: 0-based position of the image in its batch, ``iteration`` that of the batch.
    :param vae_file: file name of the VAE in use, None for the checkpoint's own.
    :param image_bytes: returns the image's raw pixels; called only for ``[image_hash]``.
    :param basename: name of the source file, for ``[basename]``.
    :param max_words: option ``directories_max_prompt_words``. :param max_length: flag ``--filenames-max-length``.
    :param unix: flag ``--unix-filenames-sanitization``: only ``/`` is replaced.
    """

    now: datetime
    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = None
    seeds: Sequence[int] = ()
    steps: int | None = None
    cfg_scale: float | None = None
    width: int = 0
    height: int = 0
    styles: Sequence[str] = ()
    style_prompts: Sequence[str] = ()
    sampler: str | None = None
    scheduler: str | None = None
    model_hash: str | None = None
    model_name: str | None = None
    vae_file: str | None = None
    clip_skip: int = 1
    denoising_strength: float | None = None
    batch_size: int = 1
    batch_index: int = 0
    n_iter: int = 1
    iteration: int = 0
    job_timestamp: str = ""
    user: str | None = None
    basename: str | None = None
    image_bytes: Callable[[], bytes] | None = None
    max_words: int = 8
    max_length: int = 128
    unix: bool = False

    def part(self, text: str, *, underscores: bool = False) -> str:
        """``text`` as part of a file name: see :func:`sanitise`."""
        return sanitise(text, underscores=underscores, max_length=self.max_length, unix=self.unix)


def sanitise(text: str, *, underscores: bool = False, max_length: int = 128, unix: bool = False) -> str:
    """``text`` without characters that file systems refuse, cut to ``max_length`` characters.

    :param underscores: write spaces as ``_``.
    :param unix: refuse ``/`` alone.
    """
    if underscores:
        text = text.replace(" ", "_")
    text = text.translate({ord(character): "_" for character in ("/\0" if unix else _FORBIDDEN + "\0")})
    return text.lstrip(" ")[:max_length].rstrip(" .")


class _Vanish(Exception):
    """The pattern does not apply: it is left out together with the text before it."""


def expand(pattern: str, context: FileContext) -> str:
    """``pattern`` with every ``[name]`` and ``[name<argument>…]`` that is known replaced.

    Names are case-insensitive. Unknown ones, and those whose value is missing, stay as ``[name]``; some (batch_number
    of a single image, denoising of txt2img …) vanish with the text before them.
    """
    written: list[str] = []
    for match in _PATTERN.finditer(pattern):
        text, name = match[1], match[2]
        if name is None:
            written.append(text)
            continue
        name, arguments = _split_arguments(name)
        try:
            value = _value(name.lower(), arguments, context)
        except _Vanish:
            continue
        written.append(f"{text}[{name}]" if value is None else f"{text}{value}")
    return "".join(written)


def _split_arguments(name: str) -> tuple[str, list[str]]:
    """``name`` without the ``<argument>``s at its end, and those in order."""
    arguments: list[str] = []
    end = len(name)
    while end and name[end - 1] == ">":
        start = name.rfind("<", 0, end)
        if start < 0 or ">" in name[start : end - 1]:
            break
        arguments.append(name[start + 1 : end - 1])
        end = start
    return name[:end], arguments[::-1]


def relative_folder(pattern: str, context: FileContext) -> PurePosixPath:
    """The sub-folder that ``pattern`` (``[prompt_words]`` when empty) names; never outside the output folder."""
    return _inside(expand(pattern or "[prompt_words]", context).lstrip(" ").rstrip("\\ /"))


def default_pattern(pattern: str, save_to_dirs: bool) -> str:
    """``pattern`` (option ``samples_filename_pattern``), or the default if it is empty."""
    return pattern or ("[seed]" if save_to_dirs else "[seed]-[prompt_spaces]")


def _inside(path: str) -> PurePosixPath:
    parts = (part.strip(" ") for part in path.replace("\\", "/").replace("\0", "_").split("/"))
    return PurePosixPath(*(re.sub(r"^[A-Za-z]:", "_", part) for part in parts if part not in {"", ".", ".."}))


def _value(name: str, arguments: list[str], context: FileContext) -> object:
    if name in _WITH_ARGUMENTS:
        return _WITH_ARGUMENTS[name](context, arguments)
    return _PLAIN[name](context) if name in _PLAIN else None


def _unless(absent: bool, value: object) -> object:
    if absent:
        raise _Vanish
    return value


def _hash(data: bytes, arguments: list[str], default: int | None) -> str | None:
    """The first hexadecimal digits of the SHA-256; None if the length that the pattern gives is not a number."""
    wanted = arguments[0] if arguments else ""
    if wanted and not re.fullmatch(r"-?\d{1,3}", wanted):
        return None
    return hashlib.sha256(data).hexdigest()[: int(wanted) if wanted else default]


def _image_hash(context: FileContext, arguments: list[str]) -> str | None:
    return None if context.image_bytes is None else _hash(context.image_bytes(), arguments, None)


def _has_prompt(context: FileContext, arguments: list[str]) -> str:
    prompt, found = context.prompt.lower(), ""
    for argument in filter(None, arguments):
        expected, _, default = argument.partition("|")
        found += expected.lower() if expected.lower() in prompt else default.partition("|")[0]
    return context.part(found, underscores=True)


def _no_styles(context: FileContext) -> str:
    prompt = context.prompt
    for style in filter(None, context.style_prompts):
        for part in style.split("{prompt}"):
            prompt = prompt.replace(part, "").replace(", ,", ",").strip().strip(",")
        prompt = prompt.replace(style, "").strip().strip(",").strip()
    return context.part(prompt)


def _words(context: FileContext) -> str:
    words = [word for word in _NOT_LETTERS.split(context.prompt) if word] or ["empty"]
    return context.part(" ".join(words[: context.max_words]))


def _time(context: FileContext, arguments: list[str]) -> str:
    pattern, zone = [*arguments, "", ""][:2]
    try:
        now = context.now.astimezone(ZoneInfo(zone) if zone else None)
    except (KeyError, ValueError, OSError):
        now = context.now.astimezone()
    try:
        return context.part(now.strftime(pattern or _TIME))
    except ValueError:
        return context.part(now.strftime(_TIME))


def _vae_name(context: FileContext) -> str:
    if context.vae_file is None:
        return "NoneType"
    parts = PurePosixPath(context.vae_file).name.split(".")
    return context.part(parts[1] if len(parts) > 1 and not parts[0] else parts[0])


def _optional(context: FileContext, text: str | None) -> str | None:
    return None if text is None else context.part(text)


def _sampler_scheduler(context: FileContext) -> str | None:
    return _optional(context, " ".join(filter(None, (context.sampler, context.scheduler))) or None)


_WITH_ARGUMENTS: Mapping[str, Callable[[FileContext, list[str]], object]] = {
    "datetime": _time,
    "prompt_hash": lambda c, a: _hash(c.prompt.encode("utf-8", "replace"), a, 8),
    "negative_prompt_hash": lambda c, a: _hash(c.negative_prompt.encode("utf-8", "replace"), a, 8),
    "full_prompt_hash": lambda c, a: _hash(f"{c.prompt} {c.negative_prompt}".encode("utf-8", "replace"), a, 8),
    "hasprompt": _has_prompt,
    "image_hash": _image_hash,
}

_PLAIN: Mapping[str, Callable[[FileContext], object]] = {
    "seed": lambda c: "" if c.seed is None else c.seed,
    "seed_first": lambda c: c.seed if c.batch_size == 1 or not c.seeds else c.seeds[0],
    "seed_last": lambda c: _unless(c.batch_size == 1 or not c.seeds, c.seeds[-1] if c.seeds else None),
    "steps": lambda c: c.steps,
    "cfg": lambda c: c.cfg_scale,
    "width": lambda c: c.width,
    "height": lambda c: c.height,
    "styles": lambda c: c.part(", ".join(style for style in c.styles if style != "None") or "None"),
    "sampler": lambda c: _optional(c, c.sampler),
    "scheduler": lambda c: _optional(c, c.scheduler),
    "sampler_scheduler": _sampler_scheduler,
    "model_hash": lambda c: c.model_hash,
    "model_name": lambda c: _optional(c, c.model_name),
    "date": lambda c: c.now.strftime("%Y-%m-%d"),
    "job_timestamp": lambda c: c.job_timestamp,
    "prompt": lambda c: c.part(c.prompt, underscores=True),
    "prompt_no_styles": _no_styles,
    "prompt_spaces": lambda c: c.part(c.prompt),
    "prompt_words": _words,
    "batch_number": lambda c: _unless(c.batch_size == 1, c.batch_index + 1),
    "batch_size": lambda c: c.batch_size,
    "generation_number": lambda c: _unless(
        c.n_iter == 1 and c.batch_size == 1, c.iteration * c.batch_size + c.batch_index + 1
    ),
    "clip_skip": lambda c: c.clip_skip,
    "denoising": lambda c: _unless(not c.denoising_strength, c.denoising_strength),
    "user": lambda c: _optional(c, c.user),
    "vae_filename": _vae_name,
    "none": lambda c: "",
    "basename": lambda c: _optional(c, c.basename),
}
