"""Classifier-free guidance: from a sampler's latent and noise level to the guided prediction.

One object serves one sampling pass. Both kinds of samplers use the same guidance: for kind "sigma" the prediction is
the clean latent, for kind "timestep" the noise. Rules: a1111-guidance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentd.generations import UNetHook
from latentd.models.nans import NansError, is_nan
from latentd.pipeline.pass_state import PassState
from latentd.plugins.blame import blamed, like
from latentd.types import GuidedStep, UNetCall

if TYPE_CHECKING:
    from latentd.conditioning.schedule import BatchConditioning, Conditioning
    from latentd.sampling.schedule import NoiseSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """The numbers of guidance.

    :ivar image_cfg_scale: guidance by the picture; for instruct-pix2pix models only.
    :ivar s_min_uncond: sigma below which every second call (with ``s_min_uncond_all`` every call) leaves the negative
        prompt out.
    :ivar skip_early: share of the calls at the beginning that leave it out.
    :ivar together: whether both prompts are evaluated in one call if their lengths allow it.
    :ivar negative_seen: whether something besides guidance uses the prediction from the negative prompt, so that it is
        needed even if it cancels out.
    """

    cfg_scale: float
    image_cfg_scale: float | None = None
    s_min_uncond: float = 0.0
    s_min_uncond_all: bool = False
    skip_early: float = 0.0
    together: bool = True
    negative_seen: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class InpaintBlend:
    """Keeps the original where ``mask`` is 1: ``x * nmask + init * mask``; all [B,4,h,w] or broadcastable to it.

    ``script`` may return another blend (soft inpainting): it is called with (latent, level) and returns the blend or
    None. The level is a sigma, or a timestep for timestep samplers, as in AUTOMATIC1111.
    """

    init: Tensor
    mask: Tensor
    nmask: Tensor
    script: Callable[[Tensor, Tensor], Tensor | None] | None = None

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """``x`` [B,4,h,w] blended with the original at ``level`` [B]."""
        if self.script is not None and (blended := self.script(x, level)) is not None:
            return blended
        return x * self.nmask + self.init * self.mask


@dataclass(slots=True, kw_only=True)
class ModelView:
    """The parts of the model in use that the denoiser needs; a refiner replaces it in the middle of a pass."""

    evaluate: Callable[[UNetCall, Sequence[UNetHook]], Tensor]
    conditioning: Conditioning
    prediction: str
    concat: Tensor | None = None
    refiner: bool = False


class CfgDenoiser:
    """The guided model for one pass; subclasses define what a level is and which prediction the sampler gets.

    :param before_call: called first at each call with (denoiser, level); it may raise an exception to stop, or replace
        the denoiser's view.
    :param step_of: returns the step and steps for ControlNet's guidance window.
    """

    def __init__(
        self,
        *,
        view: ModelView,
        schedule: NoiseSchedule,
        guidance: Guidance,
        state: PassState,
        hooks: Sequence[UNetHook] = (),
        blend: InpaintBlend | None = None,
        quantize: bool = False,
        check_nan: bool = True,
        nan_hint: Callable[[], str | None] = lambda: None,
        before_call: Callable[[CfgDenoiser, Tensor], None] = lambda denoiser, level: None,
        check: Callable[[], None] | None = None,
        step_of: Callable[[], tuple[int, int]] = lambda: (0, 1),
        modify_guidance: Callable[[Tensor, Tensor, Tensor | None], Tensor] | None = None,
    ) -> None:
        self.view = view
        self.schedule = schedule
        self.guidance = guidance
        self.state = state
        self.hooks = hooks
        self.blend = blend
        self.quantize = quantize
        self.check_nan = check_nan
        self.nan_hint = nan_hint
        self.before_call = before_call
        self.check = check
        self.step_of = step_of
        self.modify_guidance = modify_guidance
        self.last_uncond_eps: Tensor | None = None

    @torch.no_grad()
    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """The guided prediction [B,4,h,w] for the latent ``x`` [B,4,h,w] at ``level`` [B]."""
        evaluation = self.prepare(x, level)
        return self.finish(evaluation, [self.view.evaluate(call, self.hooks) for call in evaluation.calls])

    def prepare(self, x: Tensor, level: Tensor) -> Evaluation:
        """The calls of the UNet for the latent ``x`` [B,4,h,w] at ``level`` [B]."""
        self.before_call(self, level)
        x = self._blend_before(x, level)
        rows = self._rows(level)
        groups = self._groups(x, rows)
        return Evaluation(x, level, rows, groups, [self._call(x, level, parts) for parts in groups])

    def finish(self, evaluation: Evaluation, outs: Sequence[Tensor]) -> Tensor:
        """The guided prediction [B,4,h,w] from the UNet's outputs for ``evaluation.calls``.

        :raises NansError: an output is nothing but NaN.
        """
        x, level, rows = evaluation.x, evaluation.level, evaluation.rows
        predictions = self._predictions(evaluation, outs)
        guided = self._combine(predictions, rows)
        guided = self._through_hooks(evaluation, guided, predictions)
        guided = self._blend_after(guided, level)
        self._remember(x, level, guided, predictions, rows)
        self.state.call_index += 1
        return guided

    # --- what differs between the two kinds of samplers --------------------------------------------------------------

    def _unet_input(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(sample, timestep, sigma) as inputs of the UNet."""
        raise TypeError("use SigmaDenoiser or TimestepDenoiser")

    def _predicted(self, x: Tensor, level: Tensor, out: Tensor, prediction: str) -> Tensor:
        """The prediction in the sampler's terms from the UNet's output."""
        raise TypeError("use SigmaDenoiser or TimestepDenoiser")

    def _to_x0(self, x: Tensor, level: Tensor, predicted: Tensor) -> Tensor:
        return predicted

    def _from_x0(self, x: Tensor, level: Tensor, x0: Tensor) -> Tensor:
        return x0

    def _noisy(self, x: Tensor, level: Tensor) -> Tensor:
        """The sampler's latent in the scale ``clean + sigma * noise``."""
        return x

    def _from_noisy(self, latent: Tensor, level: Tensor) -> Tensor:
        return latent

    def _blend_before(self, x: Tensor, level: Tensor) -> Tensor:
        return x

    def _blend_after(self, guided: Tensor, level: Tensor) -> Tensor:
        return guided if self.blend is None else self.blend(guided, level)

    # --- rows --------------------------------------------------------------------------------------------------------

    def _rows(self, level: Tensor) -> _Rows:
        step = self.view.conditioning.at(self.state.call_index)
        if step.padded is not None:
            self.state.padded = step.padded
        return _Rows(
            image_index=step.image_index,
            weights=[weight for parts in step.parts for _, weight in parts],
            cond=step,
            skip_uncond=self._skips_uncond(level) or self._negative_cancels(step),
        )

    def _skips_uncond(self, level: Tensor) -> bool:
        g, call = self.guidance, self.state.call_index
        if self._is_edit():
            return False
        if g.skip_early > 0 and call / max(self.state.steps, 1) <= g.skip_early:
            return True
        return (g.s_min_uncond_all or call % 2 == 1) and g.s_min_uncond > 0 and bool(level[0] < g.s_min_uncond)

    def _negative_cancels(self, step: BatchConditioning) -> bool:
        """Whether u cancels out in ``u + 1 * (c - u)`` and nothing else uses it: scale 1, one prompt of weight 1."""
        g = self.guidance
        seen = g.negative_seen or bool(self.hooks) or g.s_min_uncond > 0 or g.image_cfg_scale is not None
        return g.cfg_scale == 1 and not seen and all([weight for _, weight in p] == [1.0] for p in step.parts)

    def _is_edit(self) -> bool:
        scale = self.guidance.image_cfg_scale
        return scale is not None and scale != 1.0 and self.view.concat is not None

    def _groups(self, x: Tensor, rows: _Rows) -> list[list[_Part]]:
        """The conditional rows and the unconditional ones, in as few calls as lengths allow."""
        step = rows.cond
        cond = self._positive(rows)
        if rows.skip_uncond:
            return [[cond]]
        uncond = self._negative(rows, x.shape[0])
        parts = [cond, uncond]
        if self._is_edit() and (concat := uncond.concat) is not None:
            nothing = torch.zeros_like(concat)
            parts.append(replace(uncond, concat=nothing))
        if self.guidance.together and all(p.context.shape[1] == step.context.shape[1] for p in parts):
            return [parts]
        return [[p] for p in parts]

    def _positive(self, rows: _Rows) -> _Part:
        step = rows.cond
        return _Part(rows.image_index, step.context, step.vector, self._concat(rows.image_index), True)

    def _negative(self, rows: _Rows, pictures: int) -> _Part:
        step, everyone = rows.cond, list(range(pictures))
        return _Part(everyone, step.negative_context, step.negative_vector, self._concat(everyone), False)

    def _concat(self, image_index: Sequence[int]) -> Tensor | None:
        return None if self.view.concat is None else self.view.concat[list(image_index)]

    def _call(self, x: Tensor, level: Tensor, parts: Sequence[_Part]) -> UNetCall:
        index = torch.tensor([i for p in parts for i in p.image_index], device=x.device)
        sample, timestep, sigma = self._unet_input(x[index], level[index])
        step, steps = self.step_of()
        return UNetCall(
            sample=sample,
            sigma=sigma,
            timestep=timestep,
            context=torch.cat([p.context for p in parts]),
            added=_cat([p.vector for p in parts]),
            is_cond=torch.tensor([p.is_cond for p in parts for _ in p.image_index], device=x.device),
            image_index=index,
            step=step,
            steps=steps,
            call_index=self.state.call_index,
            pass_name=self.state.pass_name,
            refiner=self.view.refiner,
            concat=_cat([p.concat for p in parts]),
            check=self.check,
        )

    def _predictions(self, evaluation: Evaluation, outs: Sequence[Tensor]) -> _Predictions:
        found: list[Tensor] = []
        for parts, call, out in zip(evaluation.groups, evaluation.calls, outs, strict=True):
            if self.check_nan and is_nan(out):
                where = "text encoder" if bool(call.context.isnan().any()) else "Unet"
                raise NansError(where, self.nan_hint())
            index = call.image_index
            predicted = self._predicted(evaluation.x[index], evaluation.level[index], out, self.view.prediction)
            found += torch.split(predicted, [len(p.image_index) for p in parts])
            self._last_call = call
        return _Predictions(*found)

    # --- guidance ----------------------------------------------------------------------------------------------------

    def _combine(self, p: _Predictions, rows: _Rows) -> Tensor:
        """``u + sum_k w_k * cfg * (c_k - u)`` per image; instruct-pix2pix's three-way form for edit models."""
        if p.bare is not None and p.uncond is not None:
            text, image = self.guidance.cfg_scale, self.guidance.image_cfg_scale or 0.0
            # The parts are in the order (prompt, picture), (negative, picture), (negative, no picture).
            return p.bare + text * (p.cond - p.uncond) + image * (p.uncond - p.bare)
        base = p.cond[_firsts(rows)] if p.uncond is None else p.uncond
        self.last_uncond_eps = base
        return _towards(base, p.cond, rows, 1.0 if p.uncond is None else self.guidance.cfg_scale)

    def _through_hooks(self, evaluation: Evaluation, guided: Tensor, p: _Predictions) -> Tensor:
        if not self.hooks and self.modify_guidance is None:
            return guided
        x, level = evaluation.x, evaluation.level
        changed = x0 = self._to_x0(x, level, guided)
        guides = [hook for hook in self.hooks if type(hook).guide is not UNetHook.guide]
        if guides or self.modify_guidance is not None:
            step = self._guided_step(evaluation, p)
            if self.modify_guidance is not None:
                changed = self.modify_guidance(changed, step.cond, step.uncond)
            for hook in guides:
                with blamed(hook.owner, f"UNet hook {type(hook).__name__}.guide"):
                    changed = like(x0)(hook.guide(step, changed))
        for hook in self.hooks:
            with blamed(hook.owner, f"UNet hook {type(hook).__name__}.denoised"):
                changed = like(x0)(hook.denoised(self._last_call, changed))
        return guided if changed is x0 else self._from_x0(x, level, changed)

    def _guided_step(self, evaluation: Evaluation, p: _Predictions) -> GuidedStep:
        x, level, rows = evaluation.x, evaluation.level, evaluation.rows
        _, timestep, sigma = self._unet_input(x, level)
        cond = p.cond if p.bare is not None else _composed(p.cond, p.uncond, rows)
        return GuidedStep(
            latent=self._noisy(x, level),
            sigma=sigma,
            timestep=timestep,
            cond=self._to_x0(x, level, cond),
            uncond=None if p.uncond is None else self._to_x0(x, level, p.uncond),
            cfg_scale=self.guidance.cfg_scale,
            call=self._last_call,
            predict=partial(self._predict, evaluation),
        )

    def _predict(self, evaluation: Evaluation, latent: Tensor, *, positive: bool, tag: str) -> Tensor:
        """The clean latent [B,4,h,w] that the model predicts from ``latent`` by one of the prompts."""
        level, rows = evaluation.level, evaluation.rows
        x = self._from_noisy(latent, level)
        call = self._call(x, level, [self._positive(rows) if positive else self._negative(rows, x.shape[0])])
        call.tags["pass"] = tag
        out = self.view.evaluate(call, self.hooks)
        predicted = self._predicted(x[call.image_index], level[call.image_index], out, self.view.prediction)
        return self._to_x0(x, level, _composed(predicted, None, rows) if positive else predicted)

    def _remember(self, x: Tensor, level: Tensor, guided: Tensor, p: _Predictions, rows: _Rows) -> None:
        firsts = _firsts(rows)
        self.state.last_x0 = self._to_x0(x, level, p.cond[firsts])
        negative = p.cond[firsts] if p.uncond is None else p.uncond
        self.state.last_negative = self._to_x0(x, level, negative)
        self.state.last_combined = self._to_x0(x, level, guided)


class SigmaDenoiser(CfgDenoiser):
    """Levels are sigmas [B]; predicts the clean latent, ``x - sigma * eps(x / sqrt(sigma^2 + 1), t(sigma))``."""

    def _unet_input(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scale = 1 / (level**2 + 1.0) ** 0.5
        return x * _wide(scale), self.schedule.sigma_to_t(level, self.quantize), level

    def _predicted(self, x: Tensor, level: Tensor, out: Tensor, prediction: str) -> Tensor:
        sigma = _wide(level)
        if prediction == "v":
            x0 = x / (sigma**2 + 1.0) + out * (-sigma / (sigma**2 + 1.0) ** 0.5)
        else:
            x0 = x + out * -sigma
        return self.schedule.scale_output(level, x0, x)


class TimestepDenoiser(CfgDenoiser):
    """Levels are timesteps [B]; predicts the noise. Inpainting blends the clean latent before the model is called."""

    def _alpha(self, level: Tensor) -> Tensor:
        return _wide(self.schedule.alphas_cumprod.to(level.device)[level.long()])

    def _unet_input(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sigma = self.schedule.sigmas.to(level.device)[level.long()]
        return x, level, sigma

    def _predicted(self, x: Tensor, level: Tensor, out: Tensor, prediction: str) -> Tensor:
        if prediction == "v":
            alpha = self._alpha(level)
            return alpha**0.5 * out + (1 - alpha) ** 0.5 * x
        return out

    def _to_x0(self, x: Tensor, level: Tensor, predicted: Tensor) -> Tensor:
        alpha = self._alpha(level)
        return (x - (1 - alpha) ** 0.5 * predicted) / alpha**0.5

    def _from_x0(self, x: Tensor, level: Tensor, x0: Tensor) -> Tensor:
        alpha = self._alpha(level)
        return (x - alpha**0.5 * x0) / (1 - alpha) ** 0.5

    def _noisy(self, x: Tensor, level: Tensor) -> Tensor:
        return x / self._alpha(level) ** 0.5

    def _from_noisy(self, latent: Tensor, level: Tensor) -> Tensor:
        return latent * self._alpha(level) ** 0.5

    def _blend_before(self, x: Tensor, level: Tensor) -> Tensor:
        return x if self.blend is None else self.blend(x, level)

    def _blend_after(self, guided: Tensor, level: Tensor) -> Tensor:
        return guided


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one call: the picture and the weight of each positive one, and whether negatives are left out."""

    image_index: list[int]
    weights: list[float]
    cond: BatchConditioning
    skip_uncond: bool


@dataclass(frozen=True, slots=True)
class _Part:
    image_index: Sequence[int]
    context: Tensor
    vector: Tensor | None
    concat: Tensor | None
    is_cond: bool


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One call by the sampler: its latent and level, and the ``calls`` of the UNet for it, which are independent."""

    x: Tensor
    level: Tensor
    rows: _Rows
    groups: list[list[_Part]]
    calls: list[UNetCall]


@dataclass(slots=True)
class _Predictions:
    cond: Tensor
    uncond: Tensor | None = None
    bare: Tensor | None = None


def _firsts(rows: _Rows) -> list[int]:
    """The row of each picture's first prompt."""
    return [rows.image_index.index(i) for i in range(max(rows.image_index) + 1)]


def _towards(base: Tensor, cond: Tensor, rows: _Rows, scale: float) -> Tensor:
    """``base + scale * sum_k w_k * (c_k - base)`` for each picture, from its rows of ``cond``."""
    guided = base.clone()
    for row, (image, weight) in enumerate(zip(rows.image_index, rows.weights, strict=True)):
        guided[image] += (cond[row] - base[image]) * (weight * scale)
    return guided


def _composed(cond: Tensor, uncond: Tensor | None, rows: _Rows) -> Tensor:
    """One prediction for each picture from those of its prompt's parts, combined as by guidance of scale 1."""
    if rows.weights == [1.0] * len(_firsts(rows)):
        return cond
    return _towards(cond[_firsts(rows)] if uncond is None else uncond, cond, rows, 1.0)


def _wide(level: Tensor) -> Tensor:
    return level[:, None, None, None]


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    found = [p for p in parts if p is not None]
    return torch.cat(found) if len(found) == len(parts) else None
