"""The contents of a network file: tensors by module and parameter under canonical names, and bundled embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from latentd.errors import ModelLoadError
from latentd.models.files.file_kinds import weights_kind
from latentd.models.files.state_dict import open_state_dict
from latentd.networks.adapter_config import AdapterConfigs, config_beside
from latentd.networks.files import read_metadata
from latentd.networks.modules import module_from
from latentd.networks.spellings import MAGNITUDE, ModuleName, canonical

_EMBEDDING_PREFIX = "bundle_emb."
_NESTED = ".string_to_param."


_Vectors: TypeAlias = dict[str, Tensor | dict[str, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkContents:
    """The contents of a file, on the CPU: for each module the tensors by parameter, and bundled embeddings by name.

    ``kind`` is what the tensors look like (``a VAE``), for messages; None if that is unknown. ``unread`` lists patterns
    of the header's settings that are ignored.
    """

    modules: Mapping[ModuleName, Mapping[str, Tensor]]
    embeddings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    kind: str | None = None
    unread: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        groups = (*self.modules.values(), *self.embeddings.values())
        return sum(value.nbytes for group in groups for value in group.values() if isinstance(value, Tensor))


def read_network(path: Path) -> NetworkContents:
    """The contents of the file; safetensors are mapped, pickles are read by the restricted unpickler.

    :raises ModelLoadError: the file is damaged, refused by the unpickler, has weights that are NaN or infinite, or
        holds two adapters.
    """
    modules: dict[ModuleName, dict[str, Tensor]] = {}
    embeddings: dict[str, _Vectors] = {}
    said: dict[tuple[ModuleName, str], str] = {}
    tensors = open_state_dict(path)
    for key, tensor in tensors.items():
        _check_numbers(path, key, tensor)
        if key.startswith(_EMBEDDING_PREFIX):
            _add_embedding(embeddings, key.removeprefix(_EMBEDDING_PREFIX), tensor)
            continue
        name = canonical(key)
        if (other := said.setdefault((name.module, name.parameter), key)) != key:
            raise ModelLoadError(
                f"{path.name} says the same twice, as {other} and as {key}",
                hint="it holds two adapters: save each in a file of its own",
            )
        parameter, value = _as_dora(name.parameter, tensor)
        modules.setdefault(name.module, {})[parameter] = value
    unread = _add_scales(path, modules)
    return NetworkContents(modules=modules, embeddings=embeddings, kind=weights_kind(tensors.shapes), unread=unread)


def _check_numbers(path: Path, key: str, tensor: Tensor) -> None:
    """Refuse a tensor with NaN or infinite values.

    :raises ModelLoadError: it has such values.
    """
    if not tensor.is_floating_point() or not tensor.numel():
        return
    low, high = torch.aminmax(tensor if tensor.element_size() > 1 else tensor.half())
    if not (low.isfinite() and high.isfinite()):
        raise ModelLoadError(
            f"{path.name} holds weights that are no number (NaN or infinite), in {key} for one",
            hint="its training went wrong or the file is damaged: take an earlier save of it",
        )


def _add_embedding(embeddings: dict[str, _Vectors], rest: str, tensor: Tensor) -> None:
    """Add one tensor of a bundled embedding.

    :param rest: the embedding's name, a dot, and the name of the vectors that files of a single embedding use.
    """
    name, nested, vectors = rest.rpartition(_NESTED)
    if nested:
        inner = embeddings.setdefault(name, {}).setdefault("string_to_param", {})
        if isinstance(inner, dict):  # a tensor of that name is no dictionary
            inner[vectors] = tensor
        return
    name, _, vectors = rest.rpartition(".")
    embeddings.setdefault(name or vectors, {})[vectors] = tensor


def _as_dora(parameter: str, tensor: Tensor) -> tuple[str, Tensor]:
    """The parameter's name and tensor; PEFT's norms of DoRA, one per output, get the shape [out, 1] that says so."""
    return ("dora_scale", tensor.reshape(-1, 1)) if parameter == MAGNITUDE else (parameter, tensor)


def _add_scales(path: Path, modules: Mapping[ModuleName, dict[str, Tensor]]) -> tuple[str, ...]:
    """Add the scale from the header's metadata to modules without a tensor alpha; returns the patterns ignored."""
    configs = AdapterConfigs({**config_beside(path), **read_metadata(path)})
    for name, weights in modules.items():
        config = configs.of(name)
        if config is None or {"alpha", "scale"} & weights.keys():
            continue
        change = module_from(weights)
        scale = config.scale(name.spelling, change.dim) if change is not None and change.has_rank else None
        if scale is not None:
            weights["scale"] = torch.tensor(scale)
    return configs.unread
