"""ControlLLLite: small networks that shift the inputs of attention's projections (rules: a1111-controlnet-kinds)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from latentd.api import (
    Attend,
    AttentionHandler,
    AttentionSite,
    Model,
    UNetCall,
    build_module,
    read_weights,
    unet_key,
    weights_from_tensors,
)
from latentd_controlnet.kinds.hook import UnitHook
from latentd_controlnet.prepared import PreparedUnit

_NAME = re.compile(r"lllite_unet_(.+)_(to_[qkv])")
_LDM = re.compile(r"((?:input|output)_blocks)_(\d+)_(\d+)_transformer_blocks_(\d+)_(attn[12])")
_MIDDLE = re.compile(r"(middle_block)_(\d+)_transformer_blocks_(\d+)_(attn[12])")
_DIFFUSERS = re.compile(
    r"(down_blocks|up_blocks)_(\d+)_attentions_(\d+)_transformer_blocks_(\d+)_(attn[12])"
    r"|(mid_block)_attentions_(\d+)_transformer_blocks_(\d+)_(attn[12])"
)


class LLLite(nn.Module):
    """One shift: ``forward(x, embedding)`` of [B,n,width] and [1,n,c] returns [B,n,width]."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], prefix: str) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        for index in range(0, 8, 2):
            shape = shapes.get(f"{prefix}.conditioning1.{index}.weight")
            if shape is None:
                break
            steps += [nn.Conv2d(shape[1], shape[0], shape[2], stride=shape[2], padding=0), nn.ReLU(inplace=True)]
        self.conditioning1 = nn.Sequential(*steps[:-1])
        self.down = _linear(shapes, f"{prefix}.down.0")
        self.mid = _linear(shapes, f"{prefix}.mid.0")
        self.up = _linear(shapes, f"{prefix}.up.0")

    def embed(self, hint: Tensor) -> Tensor:
        """The map [1,3,H,W] in -1 to 1 as tokens [1,n,c]."""
        return self.conditioning1(hint).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """The shift of ``x`` [B,n,width]."""
        joined = torch.cat([embedding.expand(x.shape[0], -1, -1), self.down(x)], dim=2)
        return self.up(self.mid(joined))  # type: ignore[no-any-return]


def _linear(shapes: Mapping[str, tuple[int, ...]], name: str) -> nn.Sequential:
    out, width = shapes[f"{name}.weight"][:2]
    layers: list[nn.Module] = [nn.Linear(width, out)]
    if not name.endswith("up.0"):
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class LLLiteSet(nn.Module):
    """All shifts of a file, by attention (its path in diffusers) and projection."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], places: Mapping[str, tuple[str, str]]) -> None:
        super().__init__()
        self.places = dict(places)
        self.shifts = nn.ModuleDict({name: LLLite(shapes, name) for name in places})

    def of(self, site: str) -> dict[str, tuple[str, LLLite]]:
        """Projection → (name, shift) for the attention at ``site``."""
        found = {place[1]: name for name, place in self.places.items() if place[0] == site}
        return {projection: (name, self.shifts[name]) for projection, name in found.items()}  # type: ignore[misc]


def load_lllite(path: Path, base: Model, dtype: torch.dtype) -> LLLiteSet:
    """The shifts in ``path``.

    :raises ModelLoadError: their widths do not fit this checkpoint.
    """
    source = read_weights(path)
    shapes = dict(source.shapes)
    names = sorted({key.partition(".")[0] for key in source})
    places = {name: place for name in names if (place := _place(name, base.module_names)) is not None}
    tensors = {f"shifts.{key}": source[key] for key in source if key.partition(".")[0] in places}
    tensors = {key: value.flatten(1) if _is_matrix(key) else value for key, value in tensors.items()}
    module: LLLiteSet = build_module(
        lambda: LLLiteSet(shapes, places), weights_from_tensors(path.name, tensors), base.device, dtype
    )
    return module


def _is_matrix(key: str) -> bool:
    return key.endswith(".weight") and "conditioning1" not in key


def _place(name: str, modules: Mapping[str, str]) -> tuple[str, str] | None:
    """(path of the attention in diffusers, projection) for the name of a module."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    if ldm := _LDM.fullmatch(match[1]):
        key = f"{ldm[1]}.{ldm[2]}.{ldm[3]}.transformer_blocks.{ldm[4]}.{ldm[5]}"
        path = unet_key(key, modules)
    elif middle := _MIDDLE.fullmatch(match[1]):
        path = unet_key(f"middle_block.{middle[2]}.transformer_blocks.{middle[3]}.{middle[4]}", modules)
    elif other := _DIFFUSERS.fullmatch(match[1]):
        parts = [part for part in other.groups() if part is not None]
        at = ".".join(parts[:-3])
        path = f"{at}.attentions.{parts[-3]}.transformer_blocks.{parts[-2]}.{parts[-1]}"
    else:
        return None
    return None if path is None else (path, match[2])


class LLLiteHook(UnitHook):
    """Shifts the inputs of queries, keys and values in the attentions that the file names."""

    def __init__(self, prepared: PreparedUnit, shifts: LLLiteSet) -> None:
        super().__init__(prepared)
        self.shifts = shifts
        self._embeddings: dict[tuple[str, str], Tensor] = {}

    def attention(self, site: AttentionSite) -> AttentionHandler | None:
        """A handler that shifts the inputs of this attention; None if the file has no shift for it."""
        found = self.shifts.of(site.name)
        if not found:
            return None

        def handler(call: UNetCall, hidden: Tensor, context: Tensor | None, attend: Attend) -> Tensor:
            if not self.acts(call):
                return attend(hidden, context)
            source = hidden if context is None else context
            queries, keys, values = (
                x + self._shift(call, found[name], x) if name in found else x
                for name, x in (("to_q", hidden), ("to_k", source), ("to_v", source))
            )
            return attend(queries, keys, values)

        return handler

    def _shift(self, call: UNetCall, named: tuple[str, LLLite], x: Tensor) -> Tensor:
        name, shift = named
        key = (call.pass_name, name)
        if key not in self._embeddings:
            self._embeddings[key] = shift.embed((self.hint(call)[:, :3] * 2 - 1).to(next(shift.parameters())))
        embedding = self._embeddings[key]
        return shift(x.to(embedding), embedding).to(x) * self.weight  # type: ignore[no-any-return]

    def close(self) -> None:
        """Drop the embeddings of the map."""
        super().close()
        self._embeddings = {}
