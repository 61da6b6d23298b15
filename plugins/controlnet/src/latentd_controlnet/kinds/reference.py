"""Reference control without a model: the UNet first records a noised reference picture.

Rules: a1111-controlnet-kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentd.api import (
    Attend,
    AttentionHandler,
    AttentionSite,
    BlockHandler,
    BlockSite,
    Generation,
    Model,
    Residuals,
    UNetCall,
    UNetHook,
)
from latentd_controlnet.enums import ControlMode
from latentd_controlnet.kinds.hook import UnitHook
from latentd_controlnet.kinds.latents import PassNoise, encode_hint
from latentd_controlnet.maps import UnitMaps
from latentd_controlnet.prepared import PreparedUnit

TAG = "reference"
_EPSILON = 1e-6
#: Blocks besides the middle whose statistics are matched, in LDM's numbering; SDXL's decoder has fewer of them.
_NORM_INPUTS, _NORM_OUTPUTS, _NORM_OUTPUTS_SDXL = (4, 5, 7, 8, 10, 11), (0, 1, 2, 3, 4, 5, 6, 7), (0, 1, 2, 3, 4, 5)


@dataclass(slots=True)
class _Memory:
    """What was recorded at one site in the reference passes of an evaluation."""

    tokens: list[Tensor] = field(default_factory=list)
    moments: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    fidelities: list[float] = field(default_factory=list)

    @property
    def fidelity(self) -> float:
        return sum(self.fidelities) / len(self.fidelities)


class ReferenceHook(UNetHook):
    """All reference units of a job: before an evaluation each records one pass, and the evaluation uses all of them."""

    def __init__(self, units: tuple[PreparedUnit, ...]) -> None:
        self._units = tuple(UnitHook(unit) for unit in units)
        self._memory: dict[str, _Memory] = {}
        self._writing: tuple[UnitHook, float] | None = None
        self._noise = PassNoise()
        self._latents: dict[tuple[int, str], Tensor] = {}
        self._model: Model | None = None
        self._ranks: dict[str, float] = {}
        self._block_ranks: dict[str, float] = {}

    @property
    def model(self) -> Model:
        """The loaded checkpoint, between ``open`` and ``close``."""
        assert self._model is not None
        return self._model

    def give_maps(self, maps: Mapping[int, UnitMaps]) -> None:
        """The units' pictures, by unit."""
        for unit in self._units:
            unit.maps = maps[unit.prepared.index]

    def open(self, generation: Generation) -> None:
        """Rank the blocks of the loaded UNet."""
        self._noise.open(generation)
        self._model = generation.model
        runner = generation.model.unet_runner
        sites = [site for site in runner.attention_sites if site.kind == "self"]
        widest_first = sorted(sites, key=lambda site: -site.width)
        self._ranks = {site.name: index / len(sites) for index, site in enumerate(widest_first)}
        self._block_ranks = _block_ranks(len(runner.inputs), len(runner.outputs), sdxl=generation.model.is_sdxl)

    def residuals(self, call: UNetCall) -> Residuals | None:
        """None, after recording the reference passes of this evaluation."""
        self._memory = {}
        acting = [unit for unit in self._units if unit.acts(call)]
        for unit in acting:
            self._latent(unit, call)
        for unit in acting:
            self._record(unit, call)
        return None

    def _record(self, unit: UnitHook, call: UNetCall) -> None:
        latent = self._latent(unit, call).expand(len(call.sample), -1, -1, -1)
        alphas = self.model.alphas_cumprod().to(latent.device)
        alpha = alphas[call.timestep.float().round().long()][:, None, None, None]
        noised = alpha.sqrt() * latent + (1 - alpha).sqrt() * self._noise.draw(latent.shape, latent.device)
        own = call.concat
        if own is not None and own.shape[1] == 5:
            call.concat = torch.cat([torch.zeros_like(own[:, :1]), latent.to(own)], dim=1)
        self._writing = unit, self._fidelity(unit, call)
        try:
            call.run(sample=noised.to(call.sample), tag=TAG)
        finally:
            self._writing, call.concat = None, own

    def _latent(self, unit: UnitHook, call: UNetCall) -> Tensor:
        key = unit.prepared.index, call.pass_name
        if key not in self._latents:
            self._latents[key] = encode_hint(self.model, unit.hint(call), self._noise)
        return self._latents[key]

    def _fidelity(self, unit: UnitHook, call: UNetCall) -> float:
        """To what degree rows without the prompt ignore the reference, from 0 to 1."""
        mode = unit.prepared.unit.control_mode
        if mode == ControlMode.CONTROL:
            return 1.0
        if mode == ControlMode.PROMPT or call.pass_name == "hires":
            return 0.0
        fidelity = min(max(unit.prepared.parameters.threshold_a, 0.0), 1.0)
        return float(fidelity**3 if call.added is not None else fidelity)

    def attention(self, site: AttentionSite) -> AttentionHandler | None:
        """A handler that records tokens in reference passes, and appends them in others."""
        if site.kind != "self" or not any(_attends(unit) for unit in self._units):
            return None

        def handler(call: UNetCall, hidden: Tensor, context: Tensor | None, attend: Attend) -> Tensor:
            if call.tags.get("pass") == TAG:
                self._remember_tokens(site, hidden)
                return attend(hidden, context)
            memory = self._memory.get(site.name)
            if memory is None or not memory.tokens:
                return attend(hidden, context)
            with_reference = attend(hidden, torch.cat([hidden, *memory.tokens], dim=1))
            return _mixed(with_reference, call, memory.fidelity, lambda rows: attend(hidden[rows], None))

        return handler

    def _remember_tokens(self, site: AttentionSite, hidden: Tensor) -> None:
        assert self._writing is not None
        unit, fidelity = self._writing
        if not _attends(unit) or unit.weight <= self._ranks[site.name]:
            return
        memory = self._memory.setdefault(site.name, _Memory())
        memory.tokens.append(hidden)
        memory.fidelities.append(fidelity)

    def block(self, site: BlockSite) -> BlockHandler | None:
        """A handler that records mean and deviation in reference passes, and matches them in others."""
        if not any(_matches(unit) for unit in self._units):
            return None

        def handler(call: UNetCall, output: Tensor) -> Tensor:
            if (rank := self._block_ranks.get(site.name)) is None:
                return output
            if call.tags.get("pass") == TAG:
                self._remember_moments(site, rank, output)
                return output
            memory = self._memory.get(site.name)
            if memory is None or not memory.moments:
                return output
            return _mixed(_matched(output, memory), call, memory.fidelity, lambda rows: output[rows])

        return handler

    def _remember_moments(self, site: BlockSite, rank: float, output: Tensor) -> None:
        assert self._writing is not None
        unit, fidelity = self._writing
        if not _matches(unit) or unit.weight <= rank:
            return
        memory = self._memory.setdefault(site.name, _Memory())
        variance, mean = torch.var_mean(output, dim=(2, 3), keepdim=True, correction=0)
        memory.moments.append((mean, variance))
        memory.fidelities.append(fidelity)

    def close(self) -> None:
        """Drop what was recorded."""
        self._memory, self._latents, self._model = {}, {}, None
        for unit in self._units:
            unit.close()


def _block_ranks(inputs: int, outputs: int, *, sdxl: bool) -> dict[str, float]:
    """Block → the weight above which a unit acts there, for a UNet with these numbers of input and output blocks."""
    encoder = [i for i in _NORM_INPUTS if i < inputs]
    decoder = [i for i in (_NORM_OUTPUTS_SDXL if sdxl else _NORM_OUTPUTS) if i < outputs]
    ranks = {"middle_block": 0.0}
    ranks |= {f"input_blocks.{i}": 2 * (1 - place / len(encoder)) for place, i in enumerate(encoder)}
    ranks |= {f"output_blocks.{i}": 2 * place / len(decoder) for place, i in enumerate(decoder)}
    return ranks


def _attends(unit: UnitHook) -> bool:
    """Whether the unit appends the reference's tokens in attention."""
    return unit.prepared.module.name in ("reference_only", "reference_adain+attn")


def _matches(unit: UnitHook) -> bool:
    """Whether the unit matches blocks to the reference's mean and deviation."""
    return "adain" in unit.prepared.module.name


def _matched(x: Tensor, memory: _Memory) -> Tensor:
    """``x`` [B,C,h,w] with the reference's mean and deviation in each channel."""
    variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
    count = len(memory.moments)
    wanted_mean = sum(m for m, _ in memory.moments) / count
    wanted_variance = sum(v for _, v in memory.moments) / count
    deviation, wanted = (v.clamp_min(_EPSILON).sqrt() for v in (variance, wanted_variance))  # type: ignore[union-attr]
    return (x - mean) / deviation * wanted + wanted_mean


def _mixed(with_reference: Tensor, call: UNetCall, fidelity: float, plain_of: Callable[[Tensor], Tensor]) -> Tensor:
    """A mixture by ``fidelity``: rows without the prompt as if there were no reference, and all rows with it."""
    rows = (~call.is_cond).nonzero().flatten()
    if fidelity <= 1e-5 or not len(rows):
        return with_reference
    careful = with_reference.clone()
    careful[rows] = plain_of(rows)
    return fidelity * careful + (1.0 - fidelity) * with_reference
