"""From an IP-Adapter's file (nested pickle or flat safetensors) to its module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from latentd.api import (
    Model,
    ModelLoadError,
    NotConfigured,
    build_module,
    load_pickle,
    read_weights,
    weights_from_tensors,
)
from latentd_controlnet.base_check import family
from latentd_controlnet.kinds.image_projections import FacePlusProjection, Shapes, projection_of

_LAYERS = (".to_k_ip.weight", ".to_v_ip.weight")


class IPAdapter(nn.Module):
    """The projection, and the keys and values for each cross-attention, in the order of the file."""

    def __init__(self, projection: Shapes, layers: Shapes) -> None:
        super().__init__()
        found = projection_of(projection)
        assert found is not None
        self.projection = found
        self.keys, self.values = nn.ModuleList(), nn.ModuleList()
        for number in sorted({int(key.split(".")[0]) for key in layers}):
            for name, target in (("to_k_ip", self.keys), ("to_v_ip", self.values)):
                out, width = layers[f"{number}.{name}.weight"]
                target.append(nn.Linear(width, out, bias=False))


def load_ip_adapter(path: Path, base: Model, dtype: torch.dtype) -> IPAdapter:
    """The adapter in ``path``.

    :raises ModelLoadError: it is for another family of checkpoints.
    :raises NotConfigured: its projection is of an unknown kind, such as PuLID's.
    """
    projection, layers = _parts(path)
    # FaceID files also have a LoRA for the UNet; as in the original, it acts only if a prompt names it as a LoRA.
    layers = {key: value for key, value in layers.items() if key.endswith(_LAYERS)}
    shapes = [{key: tuple(value.shape) for key, value in part.items()} for part in (projection, layers)]
    if projection_of(shapes[0]) is None:
        raise NotConfigured(
            f"{path.stem} is an IP-Adapter with a projection that latentd-controlnet does not know (PuLID's is one)",
            hint="plain, plus, full, FaceID and InstantID adapters work",
        )
    width = next(value.shape[1] for key, value in layers.items() if key.endswith("to_k_ip.weight"))
    if width != base.context_width:
        raise ModelLoadError(
            f"ControlNet model {path.name} is for {family(width)} and not compatible with {family(base.context_width)}"
        )
    numbers = {number: index for index, number in enumerate(sorted({int(key.split(".")[0]) for key in layers}))}
    tensors = {f"projection.{key}": value for key, value in projection.items()}
    for key, value in layers.items():
        number, name, _ = key.split(".")
        tensors[f"{'keys' if name == 'to_k_ip' else 'values'}.{numbers[int(number)]}.weight"] = value
    module: IPAdapter = build_module(
        lambda: IPAdapter(*shapes), weights_from_tensors(path.name, tensors), base.device, dtype
    )
    if isinstance(module.projection, FacePlusProjection):
        module.projection.shortcut = "v2" in path.stem.lower()
    if len(module.keys) != sum(site.kind == "cross" for site in base.unet_runner.attention_sites):
        raise ModelLoadError(f"ControlNet model {path.name} is for a UNet with {len(module.keys)} cross-attentions")
    return module


def _parts(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(projection's tensors, layers' tensors)."""
    if path.suffix.lower() != ".safetensors":
        data = load_pickle(path)
        data = data.get("state_dict", data)
        if isinstance(data.get("ip_adapter"), dict):
            return dict(data["image_proj"]), dict(data["ip_adapter"])
        flat: Mapping[str, Tensor] = data
    else:
        flat = read_weights(path)
    return _below(flat, "image_proj."), _below(flat, "ip_adapter.")


def projection_shapes(path: Path) -> Shapes:
    """Shapes of the projection in an IP-Adapter's file."""
    return {key: tuple(value.shape) for key, value in _parts(path)[0].items()}


def _below(flat: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: flat[key] for key in flat if key.startswith(prefix)}
