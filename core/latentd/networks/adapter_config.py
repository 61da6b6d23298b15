"""The settings of PEFT's adapters in a network file's header: there is alpha, if no tensor has it.

diffusers writes them as one JSON text, ``lora_adapter_metadata``, with keys such as ``unet.lora_alpha``,
``unet.alpha_pattern`` and ``text_encoder.r``. SimpleTuner and PEFT's scripts write the same keys directly into the
header, or the keys of ``adapter_config.json`` without a prefix. The rank is that of the tensors; where they have none,
as a LoKr of two whole factors, it is the settings'.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from latentd.networks.spellings import ModuleName, Owner
from latentd.regular import read_regular
from latentd.types import JsonValue

_PREFIXES: dict[str, tuple[Owner, ...]] = {
    "unet": ("unet",),
    "text_encoder": ("first", "te", "te1"),
    "text_encoder_2": ("te2",),
}
_KEYS = ("lora_alpha", "alpha", "alpha_pattern", "use_rslora", "peft_type", "r", "rank_pattern")
_MAX_CONFIG = 1 << 20
_LONGEST_PATTERN, _MOST_REPEATS, _LONGEST_PATH = 200, 2, 300
_REPEATS, _GROUP_REPEAT = re.compile(r"[*+?{]"), re.compile(r"\)[*+?{]|\(\?")


_Patterns: TypeAlias = tuple[tuple[re.Pattern[str], float], ...]


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """One adapter's settings: alpha, rank, both of single modules by pattern, and whether rsLoRA's scale is used.

    ``unread`` lists the patterns that are ignored.
    """

    alpha: float | None = None
    alpha_pattern: _Patterns = ()
    rank: float | None = None
    rank_pattern: _Patterns = ()
    rank_stabilised: bool = False
    unread: tuple[str, ...] = ()

    def scale(self, path: str, rank: int | None) -> float | None:
        """The scale of the module ``path``; None if alpha or the rank is unknown.

        It is alpha / rank, or alpha / sqrt(rank) for rsLoRA (Kalajdzievski 2023). As in PEFT, a pattern names a module
        by its whole path or by the end of it that follows a dot.

        :param rank: that of the tensors; None if they have none.
        """
        alpha = _of(path, self.alpha_pattern, self.alpha)
        divisor = rank or _of(path, self.rank_pattern, self.rank)
        if alpha is None or divisor is None or divisor < 1:
            return None
        return alpha / (math.sqrt(divisor) if self.rank_stabilised else divisor)


class AdapterConfigs:
    """The settings of all adapters in one file, by the part of the model that they are for.

    :param metadata: the header's entries; texts that are JSON objects are parsed already.
    """

    def __init__(self, metadata: Mapping[str, JsonValue]) -> None:
        self._by_prefix: dict[str, AdapterConfig] = {}
        for source in (*(value for value in metadata.values() if isinstance(value, Mapping)), metadata):
            for prefix in ("", *_PREFIXES):
                entries = _entries(source, prefix)
                if isinstance(entries.get("alpha_pattern"), Mapping) or {"lora_alpha", "peft_type"} & entries.keys():
                    self._by_prefix.setdefault(prefix, _config(entries))

    @property
    def unread(self) -> tuple[str, ...]:
        """The patterns of ``alpha_pattern`` that are ignored."""
        return tuple(pattern for config in self._by_prefix.values() for pattern in config.unread)

    def of(self, module: ModuleName) -> AdapterConfig | None:
        """The settings for ``module``; if its name does not say whose it is, those of the only adapter."""
        for prefix, owners in _PREFIXES.items():
            if module.owner in owners and prefix in self._by_prefix:
                return self._by_prefix[prefix]
        if module.owner == "any" and len(self._by_prefix) == 1:
            return next(iter(self._by_prefix.values()))
        return self._by_prefix.get("")


def config_beside(path: Path) -> dict[str, JsonValue]:
    """The object in ``adapter_config.json`` beside PEFT's ``adapter_model.safetensors``; empty without one."""
    if path.stem != "adapter_model":
        return {}
    config = path.with_name("adapter_config.json")
    try:
        found = json.loads(read_regular(config, _MAX_CONFIG))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _entries(source: Mapping[str, JsonValue], prefix: str) -> dict[str, JsonValue]:
    start = f"{prefix}." if prefix else ""
    return {key: source[start + key] for key in _KEYS if start + key in source}


def _config(entries: Mapping[str, JsonValue]) -> AdapterConfig:
    # PEFT's LoHa and LoKr write alpha, its LoRA writes lora_alpha. Without other keys of PEFT, alpha may mean anything.
    other = entries.get("alpha") if "peft_type" in entries else None
    alphas, unread = _patterns(entries.get("alpha_pattern"))
    ranks, _ = _patterns(entries.get("rank_pattern"))
    return AdapterConfig(
        alpha=_number(entries.get("lora_alpha", other)),
        alpha_pattern=alphas,
        rank=_number(entries.get("r")),
        rank_pattern=ranks,
        rank_stabilised=str(entries.get("use_rslora", False)).lower() in ("true", "1"),
        unread=unread,
    )


def _patterns(given: JsonValue) -> tuple[_Patterns, tuple[str, ...]]:
    """The patterns with their numbers, and those that are ignored."""
    listed = given.items() if isinstance(given, Mapping) else ()
    read = {str(key): (_pattern(str(key)), _number(value)) for key, value in listed}
    patterns = tuple((p, number) for p, number in read.values() if p is not None and number is not None)
    return patterns, tuple(key for key, found in read.items() if None in found)


def _of(path: str, patterns: _Patterns, otherwise: float | None) -> float | None:
    """The number of the first pattern that fits ``path``."""
    if len(path) > _LONGEST_PATH:
        return otherwise
    return next((number for pattern, number in patterns if pattern.fullmatch(path)), otherwise)


def _pattern(text: str) -> re.Pattern[str] | None:
    """The regular expression for module paths that PEFT makes from a pattern; None for one that could take long.

    Trainers write plain paths and ends of paths, but a hostile file could contain any expression.
    """
    inner = text.removeprefix("^").removesuffix("$")
    slow = len(inner) > _LONGEST_PATTERN or len(_REPEATS.findall(inner)) > _MOST_REPEATS or _GROUP_REPEAT.search(inner)
    try:
        return None if slow else re.compile(rf"(?:.*\.)?(?:{inner})")
    except (re.error, OverflowError, RecursionError):
        return None


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
