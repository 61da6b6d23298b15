"""LoRA: for each chosen layer a change of low rank beside it, in the layout of kohya's sd-scripts.

Source: Hu et al., "LoRA: Low-rank adaptation of large language models" (2021).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentd.api import InvalidRequest, ModelLoadError, Services, TrainableLayer, TrainableModel, UNetHook, read_weights
from latentd_training.drop_out import DropOut
from latentd_training.learner import MadeWith, ParameterGroup

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

Precision = Literal["float", "fp16", "bf16"]
_DTYPES = {"float": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")
#: How kohya's scripts call the families of models.
_BASES = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraOptions:
    """Which layers change, and how. ``alpha`` over ``rank`` scales the change; ``dropout`` is of what enters it."""

    rank: int = 16
    alpha: float = 16.0
    targets: frozenset[str] = frozenset({"attention", "feed_forward", "projection"})
    text: bool = False
    dropout: float = 0.0
    text_rate_factor: float = 1.0
    precision: Precision = "float"
    notes: Mapping[str, str] = field(default_factory=dict)


class LoraLayer(nn.Module):
    """The change of one layer: ``up(down(x)) · alpha / rank``, zero at first."""

    def __init__(
        self, layer: nn.Module, options: LoraOptions, generator: torch.Generator, chance: torch.Generator
    ) -> None:
        super().__init__()
        self.scale = options.alpha / options.rank
        self.drop_out = DropOut(options.dropout, chance)
        rank = options.rank
        if isinstance(layer, nn.Conv2d):
            rank = min(rank, layer.in_channels, layer.out_channels)
            shape: tuple[int, ...] = (rank, layer.in_channels, *layer.kernel_size)
            self.up = nn.Parameter(torch.zeros(layer.out_channels, rank, 1, 1))
            self._stride, self._padding, self._dilation = layer.stride, layer.padding, layer.dilation
        elif isinstance(layer, nn.Linear):
            shape = (rank, layer.in_features)
            self.up = nn.Parameter(torch.zeros(layer.out_features, rank))
        else:
            raise TypeError(f"a change of low rank for {type(layer).__name__}")
        down = torch.empty(shape)
        nn.init.kaiming_uniform_(down, a=5**0.5, generator=generator)
        self.down = nn.Parameter(down)
        self.alpha = options.alpha * rank / options.rank
        self.is_convolution = isinstance(layer, nn.Conv2d)

    def forward(self, x: Tensor) -> Tensor:
        """The change of the layer's answer to ``x``, in the dtype of ``x``."""
        x = self.drop_out(x)
        down, up = self.down.to(x.dtype), self.up.to(x.dtype)
        if self.is_convolution:
            inner = functional.conv2d(x, down, None, self._stride, self._padding, self._dilation)
            return functional.conv2d(inner, up) * self.scale
        return functional.linear(functional.linear(x, down), up) * self.scale


class LoraLearner:
    """A LoRA in training. Implements :class:`latentd_training.learner.Learner`."""

    def __init__(self, name: str, path: Path, model: TrainableModel, options: LoraOptions, seed: int) -> None:
        self.name = name
        self.path = path
        self.step = 0
        self._options = options
        self._family = model.model.family
        self._prediction = model.model.prediction_type
        generator = torch.Generator().manual_seed(seed)
        chosen = [layer for layer in model.layers() if _is_chosen(layer, options)]
        if not chosen:
            raise InvalidRequest("targets: no layer of this model is among them")
        self._chance = torch.Generator(model.device)
        self._layers = {
            layer.name: (layer, LoraLayer(layer.module, options, generator, self._chance)) for layer in chosen
        }
        for _, change in self._layers.values():
            change.to(model.device)

    @property
    def trains_text(self) -> bool:
        """Whether the text encoder changes."""
        return self._options.text

    def load(self) -> None:
        """Go on from the file.

        :raises InvalidRequest: it is one of other layers or another rank. :raises ModelLoadError: it is damaged.
        """
        weights = read_weights(self.path)
        wanted = {key: tuple(value.shape) for key, value in self._state(torch.float32).items()}
        if {key: tuple(shape) for key, shape in weights.shapes.items()} != wanted:
            raise InvalidRequest(
                f"name: {self.path.name} has other layers or another rank", hint="give the same fields"
            )
        with torch.no_grad():
            for name, (_, change) in self._layers.items():
                change.down.copy_(weights[f"{name}.lora_down.weight"])
                change.up.copy_(weights[f"{name}.lora_up.weight"])
                if float(weights[f"{name}.alpha"]) != change.alpha:
                    raise InvalidRequest(f"alpha: {self.path.name} has another one", hint="give the same fields")
        steps = weights.metadata.get("ss_steps", "")
        if not steps.isdecimal() or len(steps) > 15:
            raise ModelLoadError(f"{self.path.name} does not say how many steps it was trained")
        self.step = int(steps)

    def groups(self) -> list[ParameterGroup]:
        """A group for the UNet, and one for the text encoders, which may have a rate of their own."""
        parts: dict[str, list[nn.Parameter]] = {"unet": [], "text": []}
        for layer, change in self._layers.values():
            parts[layer.part] += [change.down, change.up]
        factors = {"unet": 1.0, "text": self._options.text_rate_factor}
        return [{"params": found, "rate_factor": factors[part]} for part, found in parts.items() if found]

    @contextmanager
    def acting(self, model: TrainableModel) -> Iterator[Sequence[UNetHook]]:
        """Within it every chosen layer's answer has its change added."""
        handles: list[RemovableHandle] = []
        try:
            for layer, change in self._layers.values():
                handles.append(layer.module.register_forward_hook(_beside(change)))
            yield ()
        finally:
            for handle in handles:
                handle.remove()

    def set_training(self, training: bool) -> None:
        """Drop-out on or off."""
        for _, change in self._layers.values():
            change.train(training)

    def seed_drop_out(self, seed: int) -> None:
        """Seed the layers' one source of chance."""
        self._chance.manual_seed(seed)

    @contextmanager
    def showing(self, services: Services) -> Iterator[Sequence[UNetHook]]:
        """Within :meth:`acting` generations draw with it anyhow; drop-out is off here."""
        self.set_training(False)
        try:
            yield ()
        finally:
            self.set_training(True)

    def file(self, made_with: MadeWith, name: str) -> bytes:
        """The bytes of its file."""
        from safetensors.torch import save

        options = self._options
        notes = {
            "ss_output_name": name,
            "ss_network_module": "networks.lora",
            "ss_network_dim": str(options.rank),
            "ss_network_alpha": str(options.alpha),
            "ss_base_model_version": _BASES[self._family] + ("_v" if self._prediction == "v" else ""),
            "ss_v2": str(self._family == "sd2"),
            "ss_v_parameterization": str(self._prediction == "v"),
            "ss_steps": str(made_with.step),
            "ss_sd_model_name": made_with.sd_checkpoint_name or "",
            "ss_new_sd_model_hash": made_with.sd_checkpoint or "",
            "ss_network_args": json.dumps({"targets": sorted(options.targets), "dropout": options.dropout}),
            **options.notes,
        }
        state = {key: value.contiguous() for key, value in self._state(_DTYPES[options.precision]).items()}
        if not all(bool(value.isfinite().all()) for value in state.values()):
            raise InvalidRequest(
                f"save_precision: {options.precision} cannot hold what {name} has learnt",
                hint="float can; a lower learn_rate helps; what was saved before is whole",
            )
        return save(state, notes)

    def checksum(self, data: bytes) -> str:
        """The first ten digits of the file's SHA-256."""
        return sha256(data).hexdigest()[:10]

    def tensors(self) -> Mapping[str, Tensor]:
        """The matrices by layer."""
        return {
            f"{name}.{side}": matrix
            for name, (_, change) in self._layers.items()
            for side, matrix in (("lora_down", change.down), ("lora_up", change.up))
        }

    def _state(self, dtype: torch.dtype) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for name, (_, change) in self._layers.items():
            state[f"{name}.lora_down.weight"] = change.down.detach().cpu().to(dtype)
            state[f"{name}.lora_up.weight"] = change.up.detach().cpu().to(dtype)
            state[f"{name}.alpha"] = torch.tensor(change.alpha, dtype=dtype)
        return state


def _beside(change: LoraLayer) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    """A forward hook that adds the change."""

    def add(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        changed: Tensor = out + change(args[0])
        return changed

    return add


def _is_chosen(layer: TrainableLayer, options: LoraOptions) -> bool:
    if layer.part == "text":
        return options.text and _kind(layer.path) in options.targets
    return _kind(layer.path) in options.targets


def _kind(path: str) -> str | None:
    """What a layer is by its path; None for those that are never changed (the time embedding, the first and last)."""
    if path.endswith(_ATTENTION):
        return "attention"
    if ".ff.net." in path or ".mlp." in path:
        return "feed_forward"
    if path.endswith((".proj_in", ".proj_out")):
        return "projection"
    if (".resnets." in path and ".conv" in path) or "samplers." in path:
        return "convolution"
    return None
