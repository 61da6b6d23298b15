"""From infotext to values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from latentd.infotext.versions import OWN_VERSION, compatibility_flags
from latentd.prompts.styles import Style, extract_styles

MAX_PARAMETERS = 65536
"""Most characters of a last line that is read as parameters; a longer one belongs to the prompt."""

_NEGATIVE = "Negative prompt:"
_KEY = re.compile(r"\w[\w \-/]+\Z")
_NOT_KEY = re.compile(r"[^\w \-/]")
_QUOTED = re.compile(r'\s*("(?:\\.|[^\\"])+")(?:,|\Z)')
_PLAIN = re.compile(r"\s*([^,]*)(?:,|\Z)")
_SIZE = re.compile(r"(\d+)x(\d+)")

_TEXTS = frozenset({"Hires prompt", "Hires negative prompt"})
"""Keys whose value is always text, even if it looks like a size."""

_DEFAULTS_BEFORE: dict[str, object] = {
    "Hires sampler": "Use same sampler",
    "Hires checkpoint": "Use same checkpoint",
    "Hires prompt": "",
    "Hires negative prompt": "",
    "Mask mode": "Inpaint masked",
    "Masked content": "original",
    "Inpaint area": "Whole picture",
    "Masked area padding": 32,
}
_DEFAULTS_AFTER: dict[str, object] = {
    "RNG": "GPU",
    "Schedule type": "Automatic",
    "Schedule max sigma": 0,
    "Schedule min sigma": 0,
    "Schedule rho": 0,
    "VAE Encoder": "Full",
    "VAE Decoder": "Full",
    "FP8 weight": "Disable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseOptions:
    """The options that influence parsing.

    :param styles: known styles, for finding them in the prompt.
    :param infotext_styles: option of that name: ``Ignore``, ``Apply``, ``Discard`` (found, but not reported) or
        ``Apply if any``.
    :param skip: option ``infotext_skip_pasting``: keys left out of the result.
    :param auto_backcompat: let the Version key switch old behaviour on.
    :param old_hires_size: option ``use_old_hires_fix_width_height``.
    """

    styles: Iterable[Style] = ()
    infotext_styles: str = "Apply if any"
    skip: Collection[str] = ()
    auto_backcompat: bool = True
    old_hires_size: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Infotext:
    """An infotext that was read: a value for every key, and which of the keys are in the text."""

    values: Mapping[str, object]
    stated: frozenset[str]

    @property
    def is_ours(self) -> bool:
        """Whether latentd wrote it, so that a missing key has the value for which nothing is written."""
        return str(self.values.get("Version", "")).startswith(OWN_VERSION)

    def get(self, key: str) -> object | None:
        """The value of ``key`` in the text; None if it is not there."""
        return self.values.get(key) if key in self.stated else None


def parse_infotext(text: str, options: ParseOptions | None = None) -> dict[str, object]:
    """The values of :func:`read_infotext`."""
    return dict(read_infotext(text, options).values)


def read_infotext(text: str, options: ParseOptions | None = None) -> Infotext:
    """Every key of ``text``, with ``Prompt``, ``Negative prompt`` and the defaults of missing keys.

    Values are text as found; defaults may be numbers or booleans. ``NxM`` becomes ``key-1`` and ``key-2``; keys without
    a value are dropped. The last line is read as parameters if it has three or more of them, else as part of the
    prompt. Nothing is raised: any text is an infotext.
    """
    options = options or ParseOptions()
    found: dict[str, object] = {}
    prompt, negative, parameters = _split(text)
    if options.infotext_styles != "Ignore":
        names, prompt, negative = extract_styles(prompt, negative, options.styles)
        if options.infotext_styles == "Apply" or (options.infotext_styles == "Apply if any" and names):
            found["Styles array"] = names
    found |= {"Prompt": prompt, "Negative prompt": negative}
    for key, value in parameters:
        _put(found, key, value)
    stated = frozenset(found).difference(options.skip)
    _complete(found, options)
    return Infotext(values={key: value for key, value in found.items() if key not in options.skip}, stated=stated)


def parse_parameters(line: str) -> list[tuple[str, str]]:
    """The ``key: value`` pairs of ``line`` in order, values still quoted.

    A key starts with a letter, digit or underscore, followed by at least one letter, digit, underscore, space, ``-`` or
    ``/``. A value is a quoted text followed by a comma or the end, or everything up to the next comma.
    """
    return list(_pairs(line)) if len(line) <= MAX_PARAMETERS else []


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    # A regular expression for the whole pair would take quadratic time on lines without a colon.
    start = 0
    while (colon := line.find(":", start)) >= 0:
        run = _NOT_KEY.split(line[start:colon])[-1].lstrip(" -/")
        start = colon + 1
        if _KEY.match(run):
            value = _QUOTED.match(line, start) or _PLAIN.match(line, start)
            if value is not None:
                yield run, value[1]
                start = value.end()


def _split(text: str) -> tuple[str, str, list[tuple[str, str]]]:
    """Prompt, negative prompt and parameters of ``text``."""
    *lines, last = text.strip().split("\n")
    parameters = parse_parameters(last)
    if len(parameters) < 3:
        lines.append(last)
        parameters = []
    prompts: tuple[list[str], list[str]] = ([], [])
    negative = False
    for line in map(str.strip, lines):
        if line.startswith(_NEGATIVE):
            negative = True
            line = line[len(_NEGATIVE) :].strip()
        if line or prompts[negative]:
            prompts[negative].append(line)
    return "\n".join(prompts[0]), "\n".join(prompts[1]), parameters


def _put(found: dict[str, object], key: str, value: str) -> None:
    if not value:
        return
    value = unquote(value)
    size = _SIZE.fullmatch(value)
    if size:
        found |= {f"{key}-1": size[1], f"{key}-2": size[2]}
    if not size or key in _TEXTS:
        found[key] = value


def unquote(text: str) -> str:
    """``text`` without the JSON quoting that :func:`latentd.infotext.build.quote` adds, if it has any."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text


def _complete(found: dict[str, object], options: ParseOptions) -> None:
    """Add the defaults, and convert the keys of old versions."""
    found.setdefault("Clip skip", "1")
    if "Hypernet" in found:
        tag = f"<hypernet:{found['Hypernet']}:{found.get('Hypernet strength', '1.0')}>"
        found["Prompt"] = f"{found['Prompt']}{tag}"
    if "Hires resize-1" not in found:
        found |= {"Hires resize-1": 0, "Hires resize-2": 0}
    _default(found, _DEFAULTS_BEFORE)
    _restore_first_pass(found, options.old_hires_size)
    _default(found, _DEFAULTS_AFTER)
    if found["FP8 weight"] != "Disable":
        found.setdefault("Cache FP16 weight for LoRA", False)
    found.setdefault("Emphasis", "Original")
    found.setdefault("Refiner switch by sampling steps", False)
    if options.auto_backcompat:
        version = found.get("Version")
        found |= compatibility_flags(
            version if isinstance(version, str) else None,
            str(found["Prompt"]),
            str(found.get("Sampler", "")),
            found.get("Refiner"),
        )


def _default(found: dict[str, object], defaults: dict[str, object]) -> None:
    for key, value in defaults.items():
        found.setdefault(key, value)


def _restore_first_pass(found: dict[str, object], old_hires_size: bool) -> None:
    """Convert the final size and first-pass size of old infotexts to a size and a hires size."""
    if old_hires_size:
        hires = _whole(found, "Hires resize-1", 0), _whole(found, "Hires resize-2", 0)
        if all(hires):
            found |= {"Size-1": hires[0], "Size-2": hires[1]}
            return
    if "First pass size-1" not in found or "First pass size-2" not in found:
        return
    width, height = _whole(found, "Size-1", 512), _whole(found, "Size-2", 512)
    first = _whole(found, "First pass size-1", 0), _whole(found, "First pass size-2", 0)
    if not all(first) and width > 0 and height > 0:
        first = old_first_pass_size(width, height)
    found |= {"Size-1": first[0], "Size-2": first[1], "Hires resize-1": width, "Hires resize-2": height}


def old_first_pass_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of the first pass before 1.0: about 512² pixels, each side rounded up to a multiple of 64."""
    scale = math.sqrt(512 * 512 / (width * height))
    return math.ceil(scale * width / 64) * 64, math.ceil(scale * height / 64) * 64


def _whole(found: dict[str, object], key: str, default: int) -> int:
    text = str(found.get(key, default))
    return int(text) if re.fullmatch(r"\d{1,9}", text) else default
