"""The configuration beside a checkpoint (``<name>.yaml`` of LDM or SGM), for facts that weights do not show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from latentd.errors import ModelLoadError
from latentd.models.architecture import PredictionType
from latentd.regular import read_regular
from latentd.types import JsonValue

MAX_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelYaml:
    """The entries that are used; None if the file does not have them."""

    prediction_type: PredictionType | None = None
    scale_factor: float | None = None
    linear_start: float | None = None
    linear_end: float | None = None
    steps: int | None = None
    heads: int | None = None
    head_channels: int | None = None


def read_model_yaml(path: Path) -> ModelYaml:
    """The entries of ``path``.

    :raises ModelLoadError: it is not a YAML mapping with a ``model``, or an entry has the wrong type.
    """
    try:
        model = _mapping(yaml.safe_load(read_regular(path, MAX_BYTES)), "model")
        params = _mapping(model, "params")
        unet = _mapping(_mapping(params, "unet_config") or _mapping(params, "network_config"), "params")
        return ModelYaml(
            prediction_type=_prediction(params),
            scale_factor=_number(params, "scale_factor"),
            linear_start=_number(params, "linear_start"),
            linear_end=_number(params, "linear_end"),
            steps=_whole(params, "timesteps"),
            heads=_whole(unet, "num_heads"),
            head_channels=_whole(unet, "num_head_channels"),
        )
    except (yaml.YAMLError, OSError, RecursionError, TypeError, ValueError) as error:
        raise ModelLoadError(f"model configuration {path.name} is not usable: {error}") from error


def _mapping(parent: Mapping[str, JsonValue], key: str) -> Mapping[str, JsonValue]:
    value = parent.get(key, {}) if isinstance(parent, dict) else None
    if not isinstance(value, dict):
        raise TypeError(f"{key!r} must be a mapping")
    return value


def _prediction(params: Mapping[str, JsonValue]) -> PredictionType | None:
    if "parameterization" in params:
        found = {"eps": "eps", "v": "v"}.get(str(params["parameterization"]))
        if found is None:
            raise ValueError(f"parameterization {params['parameterization']!r} is neither 'eps' nor 'v'")
        return "v" if found == "v" else "eps"
    scaling = _mapping(_mapping(_mapping(params, "denoiser_config"), "params"), "scaling_config").get("target")
    if scaling is None:
        # LDM's own default; SGM's files always name their scaling.
        return "eps" if "linear_start" in params else None
    return "v" if str(scaling).rpartition(".")[2].startswith("V") else "eps"


def _number(params: Mapping[str, JsonValue], key: str) -> float | None:
    value = params.get(key)
    return None if value is None else float(value)


def _whole(params: Mapping[str, JsonValue], key: str) -> int | None:
    value = params.get(key)
    if value is None or int(value) == -1:
        return None
    if not 0 < int(value) <= 100_000:
        raise ValueError(f"{key} is out of range")
    return int(value)
