"""The UNet's forward pass over diffusers' modules, with the sites where hooks take part.

The modules are those of diffusers, but the order in which they run is written here, for two reasons. AUTOMATIC1111's
UNet doubles the feature map, convolves it and resizes it to the skip connection by the nearest cell, while diffusers
upsamples to the final size at once; pictures of odd latent sizes differ. And hooks can get every block's output without
any change to the modules. Block names are LDM's: ``input_blocks.N``, ``middle_block``, ``output_blocks.N``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentd.generations import UNetHook
from latentd.models.modules.attention import AttentionDispatch, install
from latentd.models.modules.step_cache import SHALLOW, StepCache
from latentd.models.modules.unet_block import Block
from latentd.models.untyped import DiffusersUNet
from latentd.plugins.blame import blamed, entering, like
from latentd.types import (
    Attend,
    AttentionHandler,
    AttentionSite,
    BlockHandler,
    BlockSite,
    EntryHandler,
    Evaluate,
    Residuals,
    UNetCall,
    Window,
)

Site = TypeVar("Site", BlockSite, AttentionSite)
Handler = TypeVar("Handler", AttentionHandler, BlockHandler, EntryHandler)


@dataclass(frozen=True, slots=True)
class _Forward:
    """One forward pass: embedded timestep [B,E], text [B,n,d], call and residuals; the skips that are still to come."""

    emb: Tensor
    context: Tensor
    call: UNetCall
    additions: Sequence[Residuals]
    skips: list[Tensor] = field(default_factory=list)


class UNetRunner:
    """Evaluates one loaded UNet. It exists as long as the model and keeps nothing of a job between passes.

    :param unet: a ``UNet2DConditionModel`` of the SD1, SD2 or SDXL family, in eval mode.
    """

    def __init__(self, unet: DiffusersUNet) -> None:
        self.unet = unet
        self.inputs, self.middle, self.outputs = _walk(unet)
        self.dispatch = AttentionDispatch()
        self.attention_sites: tuple[AttentionSite, ...] = install(unet, self.blocks, self.dispatch)
        self._handlers: dict[str, list[BlockHandler]] = {}
        self._entries: dict[str, list[EntryHandler]] = {}
        self._cache: StepCache | None = None

    @property
    def _handled(self) -> bool:
        """Whether a hook takes part within the UNet."""
        return bool(self._handlers or self._entries or self.dispatch.handlers)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks in the order of execution."""
        return (*self.inputs, self.middle, *self.outputs)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the UNet computes."""
        # The weights of norms are never stored in eight bits.
        return self.unet.conv_norm_out.weight.dtype  # type: ignore[no-any-return]

    @contextmanager
    def session(
        self, hooks: Sequence[UNetHook], *, upcast_attention: bool = False, step_cache: StepCache | None = None
    ) -> Iterator[None]:
        """A context with the handlers of ``hooks``, for one sampling pass.

        :param step_cache: where deep features are kept between steps; without effect beside residuals and handlers.
        """
        sites = [block.site for block in self.blocks]
        self._handlers = _handlers(hooks, "block", sites, _block_handler)
        self._entries = _handlers(hooks, "entry", sites, _entry_handler)
        self.dispatch.handlers = _handlers(hooks, "attention", self.attention_sites, _attention_handler)
        self.dispatch.upcast = upcast_attention
        self._cache = step_cache
        try:
            yield
        finally:
            self._handlers, self._entries, self._cache = {}, {}, None
            self.dispatch.reset()

    def evaluate(self, call: UNetCall, hooks: Sequence[UNetHook] = ()) -> Tensor:
        """The UNet's output [B,C,h,w] (float32) for ``call``, with the changes of ``hooks``."""
        call.runner, call.unet = self, self.unet
        for hook in hooks:
            with blamed(hook.owner, _place(hook, "before")):
                hook.before(call)
        additions = [r for hook in hooks if (r := _residuals(hook, call)) is not None]
        evaluate: Evaluate = partial(self._in_windows, additions, call.sample.shape[-2:])
        for hook in hooks:
            if type(hook).around is not UNetHook.around:
                evaluate = partial(_around, hook, evaluate)
        out = evaluate(call)
        for hook in hooks:
            with blamed(hook.owner, _place(hook, "after")):
                out = like(out)(hook.after(call, out))
        return out

    def _in_windows(
        self, additions: Sequence[Residuals], whole: Sequence[int], call: UNetCall, windows: Sequence[Window] = ()
    ) -> Tensor:
        return self.forward(call, [_cut(r, windows, whole) for r in additions] if windows else additions)

    def extra_pass(self, call: UNetCall, *, sample: Tensor | None, context: Tensor | None, tag: str) -> Tensor:
        """The output of a further pass beside ``call`` with the same handlers, which see ``tags['pass']``.

        Residuals are not added.
        """
        beside = copy.copy(call)
        beside.tags = {**call.tags, "pass": tag}
        if sample is not None:
            beside.sample = sample
        if context is not None:
            beside.context = context
        outer = self.dispatch.call
        try:
            return self.forward(beside, ())
        finally:
            self.dispatch.call = outer

    def forward(self, call: UNetCall, additions: Sequence[Residuals]) -> Tensor:
        """The UNet's output [B,C,h,w] for ``call`` with residuals ``additions``, without hooks around it."""
        self.dispatch.call = call
        dtype = self.dtype
        sample = call.sample if call.concat is None else torch.cat([call.sample, call.concat], dim=1)
        f = _Forward(self._embed(call, dtype), call.context.to(dtype), call, additions)
        h = self._down(self.inputs[:SHALLOW], sample.to(dtype), f)
        cache = self._cache_beside(additions)
        deep = None if cache is None else cache.reuse(call, h)
        if deep is None:
            shallow, h = h, self._through_middle(self._down(self.inputs[SHALLOW:], h, f), f)
            deep = self._up(self.outputs[:-SHALLOW], h, f)
            if cache is not None:
                cache.keep(call, shallow, deep)
        h = self._up(self.outputs[-SHALLOW:], deep, f)
        out: Tensor = self.unet.conv_out(self.unet.conv_act(self.unet.conv_norm_out(_fit(h, call.sample.to(h.dtype)))))
        self.dispatch.call = None
        return out.float()

    def _cache_beside(self, additions: Sequence[Residuals]) -> StepCache | None:
        """The cache of deep features, where nothing else takes part in this call."""
        if self._cache is None or not (additions or self._handled):
            return self._cache
        self._cache.passed_over += 1
        return None

    def _down(self, blocks: Sequence[Block], h: Tensor, f: _Forward) -> Tensor:
        """``h`` through input ``blocks``; the output of each is appended to the skips."""
        for block in blocks:
            h, _ = self._enter(block, h, None, f.call)
            h = _add_intra(self._run(block, h, f), block, f.additions)
            f.skips.append(h)
        return h

    def _through_middle(self, h: Tensor, f: _Forward) -> Tensor:
        h, _ = self._enter(self.middle, h, None, f.call)
        h = _add_intra(self._run(self.middle, h, f), self.middle, f.additions)
        for r in f.additions:
            if r.mid is not None:
                h = h + _fit(r.mid, h)
        return h

    def _up(self, blocks: Sequence[Block], h: Tensor, f: _Forward) -> Tensor:
        """``h`` through output ``blocks``; each takes the last of the skips."""
        for block in blocks:
            place = len(f.skips) - 1
            skip = _with_residual(f.skips.pop(), place, f.additions)
            h, joined = self._enter(block, h, skip, f.call)
            skip = skip if joined is None else joined
            h = self._run(block, torch.cat([_fit(h, skip), skip], dim=1), f)
        return h

    def _embed(self, call: UNetCall, dtype: torch.dtype) -> Tensor:
        unet = self.unet
        emb = unet.time_embedding(unet.time_proj(call.timestep.float()).to(dtype))
        if call.added is not None and getattr(unet, "add_embedding", None) is not None:
            emb = emb + unet.add_embedding(call.added.to(dtype))
        return emb  # type: ignore[no-any-return]

    def _enter(self, block: Block, h: Tensor, skip: Tensor | None, call: UNetCall) -> tuple[Tensor, Tensor | None]:
        for handler in self._entries.get(block.site.name, ()):
            h, skip = handler(call, h, skip)
        return h, skip

    def _run(self, block: Block, h: Tensor, f: _Forward) -> Tensor:
        for module in block.modules:
            if f.call.check is not None:
                f.call.check()
            kind = type(module).__name__
            if kind == "ResnetBlock2D":
                h = module(h, f.emb)
            elif kind == "Transformer2DModel":
                h = module(h, encoder_hidden_states=f.context, return_dict=False)[0]
            else:
                h = module(h)
        for handler in self._handlers.get(block.site.name, ()):
            h = handler(f.call, h)
        return h


def _walk(unet: DiffusersUNet) -> tuple[tuple[Block, ...], Block, tuple[Block, ...]]:
    inputs = [_block("input", 0, unet.conv_in.out_channels, unet.conv_in)]
    for down in unet.down_blocks:
        attentions = getattr(down, "attentions", None) or [None] * len(down.resnets)
        for resnet, attention in zip(down.resnets, attentions, strict=True):
            inputs.append(_block("input", len(inputs), resnet.out_channels, resnet, attention))
        for sampler in down.downsamplers or ():
            inputs.append(_block("input", len(inputs), sampler.out_channels, sampler))
    mid = unet.mid_block
    parts = [mid.resnets[0]]
    for attention, resnet in zip(getattr(mid, "attentions", None) or [None], mid.resnets[1:], strict=True):
        parts += [attention, resnet]
    middle = _block("middle", 0, mid.resnets[0].out_channels, *parts)
    outputs: list[Block] = []
    for up in unet.up_blocks:
        attentions = getattr(up, "attentions", None) or [None] * len(up.resnets)
        for j, (resnet, attention) in enumerate(zip(up.resnets, attentions, strict=True)):
            last = list(up.upsamplers or ()) if j == len(up.resnets) - 1 else []
            outputs.append(_block("output", len(outputs), resnet.out_channels, resnet, attention, *last))
    return tuple(inputs), middle, tuple(outputs)


def _block(kind: Literal["input", "middle", "output"], index: int, channels: int, *modules: nn.Module | None) -> Block:
    name = "middle_block" if kind == "middle" else f"{kind}_blocks.{index}"
    site = BlockSite(name=name, kind=kind, index=index, channels=channels)
    return Block(site, tuple(m for m in modules if m is not None))


def _handlers(
    hooks: Sequence[UNetHook],
    method: str,
    sites: Sequence[Site],
    blaming: Callable[[UNetHook, Site, Handler], Handler],
) -> dict[str, list[Handler]]:
    """The handlers that ``method`` of the hooks returns for each site, by its name; without sites that have none."""
    found: dict[str, list[Handler]] = {}
    for site in sites:
        for hook in hooks:
            if (handler := _asked(hook, method, site)) is not None:
                found.setdefault(site.name, []).append(blaming(hook, site, handler))
    return found


def _asked(hook: UNetHook, method: str, site: BlockSite | AttentionSite) -> Any:  # a handler of the method's kind
    with blamed(hook.owner, _place(hook, method)):
        return getattr(hook, method)(site)


def _place(hook: UNetHook, method: str) -> str:
    """The name of a hook's method in errors."""
    return f"UNet hook {type(hook).__name__}.{method}"


def _residuals(hook: UNetHook, call: UNetCall) -> Residuals | None:
    with blamed(hook.owner, _place(hook, "residuals")):
        found = hook.residuals(call)
        if found is not None and not isinstance(found, Residuals):
            raise TypeError(f"returned a value of type {type(found).__name__}, not Residuals")
        return found


def _block_handler(hook: UNetHook, site: BlockSite, handler: BlockHandler) -> BlockHandler:
    """``handler``, with errors that name the hook's plugin; handlers of the core are returned unchanged."""
    if not hook.owner:
        return handler

    def handle(call: UNetCall, output: Tensor) -> Tensor:
        with blamed(hook.owner, f"{_place(hook, 'block')}, its handler for {site.name}"):
            changed: Tensor = like(output)(handler(call, output))
            return changed

    return handle


def _entry_handler(hook: UNetHook, site: BlockSite, handler: EntryHandler) -> EntryHandler:
    if not hook.owner:
        return handler

    def handle(call: UNetCall, hidden: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor | None]:
        with blamed(hook.owner, f"{_place(hook, 'entry')}, its handler for {site.name}"):
            entered: tuple[Tensor, Tensor | None] = entering(hidden, skip)(handler(call, hidden, skip))
            return entered

    return handle


def _around(hook: UNetHook, evaluate: Evaluate, call: UNetCall, windows: Sequence[Window] = ()) -> Tensor:
    with blamed(hook.owner, _place(hook, "around")):
        inner = evaluate if not windows else partial(evaluate, windows=windows)
        out: Tensor = like(call.sample)(hook.around(call, inner))
        return out


def _attention_handler(hook: UNetHook, site: AttentionSite, handler: AttentionHandler) -> AttentionHandler:
    if not hook.owner:
        return handler

    def handle(call: UNetCall, hidden: Tensor, context: Tensor | None, attend: Attend) -> Tensor:
        with blamed(hook.owner, f"{_place(hook, 'attention')}, its handler for {site.name}"):
            changed: Tensor = like(hidden)(handler(call, hidden, context, attend))
            return changed

    return handle


def _fit(x: Tensor, like: Tensor) -> Tensor:
    """``x`` resized to the height and width of ``like`` by the nearest cell."""
    if x.shape[-2:] == like.shape[-2:]:
        return x.to(like.dtype)
    return F.interpolate(x.to(like.dtype), size=like.shape[-2:], mode="nearest")


def _cut(r: Residuals, windows: Sequence[Window], whole: Sequence[int]) -> Residuals:
    """The residuals of the ``whole`` latent (height, width), cut to ``windows`` and stacked in their order."""

    def cut(x: Tensor) -> Tensor:
        high, wide = x.shape[-2] / whole[0], x.shape[-1] / whole[1]
        parts = [
            x[..., round(w.top * high) : round((w.top + w.height) * high),
              round(w.left * wide) : round((w.left + w.width) * wide)]
            for w in windows
        ]  # fmt: skip
        return torch.cat(parts)

    return Residuals(
        down=None if r.down is None else [cut(x) for x in r.down],
        mid=None if r.mid is None else cut(r.mid),
        intra=None if r.intra is None else {name: cut(x) for name, x in r.intra.items()},
    )


def _add_intra(h: Tensor, block: Block, additions: Sequence[Residuals]) -> Tensor:
    for r in additions:
        if r.intra and (extra := r.intra.get(block.site.name)) is not None:
            h = h + _fit(extra, h)
    return h


def _with_residual(skip: Tensor, index: int, additions: Sequence[Residuals]) -> Tensor:
    for r in additions:
        if r.down is not None:
            skip = skip + _fit(r.down[index], skip)
    return skip
