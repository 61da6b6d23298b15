"""T2I-Adapters, full and light: small networks that see only the map and add four features to the encoder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentd.api import Model, ModelLoadError, Residuals, UNetCall, build_module, read_weights, weights_from_tensors
from latentd_controlnet.kinds.hook import UnitHook
from latentd_controlnet.kinds.recognise import Kind, strip
from latentd_controlnet.prepared import PreparedUnit

#: Soft weights of the four features, from fine to coarse.
SOFT = (0.25, 0.62, 0.825, 1.0)
#: Blocks after which the features are added.
SD_BLOCKS = ("input_blocks.2", "input_blocks.5", "input_blocks.8", "input_blocks.11")
SDXL_BLOCKS = ("input_blocks.3", "input_blocks.5", "input_blocks.8", "middle_block")
LEVELS = 4
#: Channels of a hint of one or three channels after unshuffling by 16 (SDXL); others are unshuffled by 8.
_BY_16 = (256, 768)
_ONE_CHANNEL = (64, 256)
_DIFFUSERS = re.compile(r"body\.(\d+)\.(?:resnets\.(\d+)\.)?(.+)")


class _Block(nn.Module):
    """A residual block, with the file's layers before it: halving, and a convolution to another width."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], prefix: str, *, down: bool) -> None:
        super().__init__()
        self.down = down
        self.in_conv = _conv(shapes, f"{prefix}.in_conv")
        self.block1 = _conv(shapes, f"{prefix}.block1")
        self.block2 = _conv(shapes, f"{prefix}.block2")
        self.skep = _conv(shapes, f"{prefix}.skep")

    def forward(self, x: Tensor) -> Tensor:
        if self.down:
            x = _halved(x)
        if self.in_conv is not None:
            x = self.in_conv(x)
        assert self.block1 is not None
        assert self.block2 is not None
        h = self.block2(F.relu(self.block1(x)))
        return h + (x if self.skep is None else self.skep(x))  # type: ignore[no-any-return]


class FullAdapter(nn.Module):
    """The full adapter. ``forward(hint)`` [1,C,H,W] returns the feature after every ``len(body)/4`` blocks."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        count = 1 + max(int(key.split(".")[1]) for key in shapes if key.startswith("body."))
        self.each = max(count // LEVELS, 1)
        channels = shapes["conv_in.weight"][1]
        self.shrink, self.one_channel = (16 if channels in _BY_16 else 8), channels in _ONE_CHANNEL
        # SDXL's halves once, before its third level; the others halve before every level but the first.
        halved = {2} if self.shrink == 16 else {1, 2, 3}
        self.conv_in = _conv(shapes, "conv_in")
        self.body = nn.ModuleList(
            _Block(shapes, f"body.{i}", down=i % self.each == 0 and i // self.each in halved) for i in range(count)
        )

    def forward(self, hint: Tensor) -> list[Tensor]:
        """Four features [1,c,h,w], from fine to coarse."""
        assert self.conv_in is not None
        x = self.conv_in(F.pixel_unshuffle(hint[:, :1] if self.one_channel else hint, self.shrink))
        features = []
        for index, block in enumerate(self.body):
            x = block(x)
            if index % self.each == self.each - 1:
                features.append(x)
        return features


class _LightLevel(nn.Module):
    def __init__(self, shapes: Mapping[str, tuple[int, ...]], prefix: str) -> None:
        super().__init__()
        count = 1 + max(int(k.split(".")[3]) for k in shapes if k.startswith(f"{prefix}.body."))
        self.in_conv = _conv(shapes, f"{prefix}.in_conv")
        self.body = nn.ModuleList(_Block(shapes, f"{prefix}.body.{i}", down=False) for i in range(count))
        self.out_conv = _conv(shapes, f"{prefix}.out_conv")

    def forward(self, x: Tensor) -> Tensor:
        assert self.in_conv is not None
        assert self.out_conv is not None
        x = self.in_conv(x)
        for block in self.body:
            x = block(x)
        return self.out_conv(x)  # type: ignore[no-any-return]


class LightAdapter(nn.Module):
    """The light adapter: narrow blocks between convolutions of one pixel."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        count = 1 + max(int(key.split(".")[1]) for key in shapes if key.startswith("body."))
        self.one_channel = shapes["body.0.in_conv.weight"][1] in _ONE_CHANNEL
        self.body = nn.ModuleList(_LightLevel(shapes, f"body.{i}") for i in range(count))

    def forward(self, hint: Tensor) -> list[Tensor]:
        """Four features [1,c,h,w], from fine to coarse."""
        x = F.pixel_unshuffle(hint[:, :1] if self.one_channel else hint, 8)
        features = []
        for index, level in enumerate(self.body):
            x = level(_halved(x) if index else x)
            features.append(x)
        return features


def _halved(x: Tensor) -> Tensor:
    """``x`` [B,C,h,w] at half its size; a side of one pixel, which pictures below 64 pixels come to, stays one."""
    return F.avg_pool2d(x, 2, ceil_mode=min(x.shape[-2:]) < 2)


def _conv(shapes: Mapping[str, tuple[int, ...]], name: str) -> nn.Conv2d | None:
    """The file's convolution of this name, padded so that sizes stay; None if the file has none."""
    shape = shapes.get(f"{name}.weight")
    if shape is None:
        return None
    return nn.Conv2d(shape[1], shape[0], shape[2], padding=shape[2] // 2, bias=f"{name}.bias" in shapes)


def load_adapter(path: Path, kind: Kind, base: Model, dtype: torch.dtype) -> FullAdapter | LightAdapter:
    """The adapter in ``path``, with the original's names or those of diffusers.

    :raises ModelLoadError: it is damaged, or for another family of checkpoints.
    """
    source = read_weights(path)
    tensors = {strip(key): source[key] for key in source}
    if any(".resnets." in key for key in tensors):
        tensors = _from_diffusers(tensors)
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    first = shapes.get("conv_in.weight") or shapes["body.0.out_conv.weight"]
    width = base.unet.conv_in.out_channels
    if first[0] != width:
        raise ModelLoadError(
            f"ControlNet model {path.name} has features of {first[0]} channels, this checkpoint of {width}",
            hint="choose a control model or a checkpoint of the same family",
        )
    make: type[FullAdapter] | type[LightAdapter] = FullAdapter if kind == Kind.T2I_ADAPTER else LightAdapter
    return build_module(lambda: make(shapes), weights_from_tensors(path.name, tensors), base.device, dtype)


def _from_diffusers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``body.i.resnets.j.x`` → ``body.(n·i+j).x``, ``body.i.in_conv`` → ``body.(n·i).in_conv``; not for light ones."""
    if any(".out_conv." in key for key in tensors):
        return {key.replace(".resnets.", ".body."): value for key, value in tensors.items()}
    matches = {key: _DIFFUSERS.fullmatch(key) for key in tensors}
    each = 1 + max(int(m[2]) for m in matches.values() if m and m[2])
    renamed = {}
    for key, match in matches.items():
        name = f"body.{int(match[1]) * each + int(match[2] or 0)}.{match[3]}" if match else key
        renamed[name] = tensors[key]
    return renamed


class AdapterHook(UnitHook):
    """Adds the adapter's features to four blocks of the encoder."""

    def __init__(self, prepared: PreparedUnit, adapter: nn.Module) -> None:
        super().__init__(prepared)
        self.adapter = adapter
        self._features: dict[str, list[Tensor]] = {}

    def residuals(self, call: UNetCall) -> Residuals | None:
        """The scaled features, by block of the encoder; None while the unit does not act."""
        if not self.acts(call):
            return None
        own = self.prepared.unit.advanced_weighting
        scales = own or [self.weight * s for s in (SOFT if self.is_soft(call) else (1.0,) * LEVELS)]
        blocks = SDXL_BLOCKS if call.added is not None else SD_BLOCKS
        rows = self.rows(call) * torch.ones_like(call.is_cond[:, None, None, None], dtype=torch.float32)
        return Residuals(
            intra={
                block: self.in_region(feature * (rows * scale).to(feature))
                for block, feature, scale in zip(blocks, self._of_pass(call), scales, strict=False)
            }
        )

    def _of_pass(self, call: UNetCall) -> list[Tensor]:
        if call.pass_name not in self._features:
            hint = self.hint(call)[:, :3].to(next(self.adapter.parameters()))
            shrink = getattr(self.adapter, "shrink", 8)
            height, width = (side // shrink * shrink for side in hint.shape[-2:])
            self._features[call.pass_name] = self.adapter(hint[:, :, :height, :width])
        return self._features[call.pass_name]

    def close(self) -> None:
        """Drop the features."""
        super().close()
        self._features = {}
