"""The settings of PEFT's adapters in a network file's header, where alpha stands that no tensor holds.

diffusers packs them as one JSON text, ``lora_adapter_metadata``, with keys such as ``unet.lora_alpha``,
``unet.alpha_pattern`` and ``text_encoder.r``; SimpleTuner and scripts of PEFT's own write the same keys straight into
the header, or those of ``adapter_config.json`` without a prefix. The rank is that of the tensors, always.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentd.networks.spellings import ModuleName, Owner

_PREFIXES: dict[str, tuple[Owner, ...]] = {
    "unet": ("unet",),
    "text_encoder": ("first", "te", "te1"),
    "text_encoder_2": ("te2",),
}
_KEYS = ("lora_alpha", "alpha", "alpha_pattern", "use_rslora", "peft_type")
_MAX_CONFIG = 1 << 20


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """One adapter's settings: alpha, alphas of single modules by the end of their path, and rsLoRA's other scale."""

    alpha: float | None = None
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    rank_stabilised: bool = False

    def scale(self, path: str, rank: int) -> float | None:
        """alpha / rank, or alpha / sqrt(rank) for rsLoRA (Kalajdzievski 2023), of the module ``path``; None: unknown.

        As in PEFT, a pattern names a module by its whole path or by its end, from a dot on.
        """
        alpha = next((a for end, a in self.alpha_pattern.items() if f"_{path}".endswith(f"_{end}")), self.alpha)
        if alpha is None or rank < 1:
            return None
        return alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


class AdapterConfigs:
    """All adapters' settings of one file, by whose modules they concern.

    :param metadata: the header's entries, texts that hold JSON objects parsed.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._by_prefix: dict[str, AdapterConfig] = {}
        for source in (*(value for value in metadata.values() if isinstance(value, Mapping)), metadata):
            for prefix in ("", *_PREFIXES):
                entries = _entries(source, prefix)
                if {"lora_alpha", "alpha_pattern", "peft_type"} & entries.keys():
                    self._by_prefix.setdefault(prefix, _config(entries))

    def __bool__(self) -> bool:
        return bool(self._by_prefix)

    def of(self, module: ModuleName) -> AdapterConfig | None:
        """The settings for ``module``; where its name says not whose it is, those of the only adapter."""
        for prefix, owners in _PREFIXES.items():
            if module.owner in owners and prefix in self._by_prefix:
                return self._by_prefix[prefix]
        if module.owner == "any" and len(self._by_prefix) == 1:
            return next(iter(self._by_prefix.values()))
        return self._by_prefix.get("")


def config_beside(path: Path) -> dict[str, Any]:
    """The object in ``adapter_config.json`` beside PEFT's ``adapter_model.safetensors``; empty without one."""
    if path.stem != "adapter_model":
        return {}
    config = path.with_name("adapter_config.json")
    try:
        if not config.is_file() or config.stat().st_size > _MAX_CONFIG:
            return {}
        found = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _entries(source: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    start = f"{prefix}." if prefix else ""
    return {key: source[start + key] for key in _KEYS if start + key in source}


def _config(entries: Mapping[str, Any]) -> AdapterConfig:
    # PEFT's LoHa and LoKr say alpha where its LoRA says lora_alpha; without its own word the key may mean anything.
    other = entries.get("alpha") if "peft_type" in entries else None
    return AdapterConfig(
        alpha=_number(entries.get("lora_alpha", other)),
        alpha_pattern=dict(_patterns(entries.get("alpha_pattern"))),
        rank_stabilised=str(entries.get("use_rslora", False)).lower() in ("true", "1"),
    )


def _patterns(found: object) -> Iterator[tuple[str, float]]:
    """Path ends with underscores for dots. PEFT takes them for regular expressions; trainers write plain paths."""
    if not isinstance(found, Mapping):
        return
    for pattern, value in found.items():
        alpha = _number(value)
        if alpha is not None:
            plain = str(pattern).removeprefix("^").removesuffix("$").replace("\\.", ".")
            yield plain.replace(".", "_").removeprefix("text_model_"), alpha


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
