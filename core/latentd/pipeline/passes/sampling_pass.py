"""One sampling pass on the worker: its numbers from plan and options, its denoiser, and its outcome."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from torch import Tensor

from latentd.errors import Interrupted
from latentd.generations import SamplerChoice
from latentd.models.nans import nan_weights
from latentd.pipeline.pass_state import PassState
from latentd.pipeline.passes.denoiser import (
    CfgDenoiser,
    Guidance,
    InpaintBlend,
    ModelView,
    SigmaDenoiser,
    TimestepDenoiser,
)
from latentd.pipeline.passes.image_conditioning import image_guidance
from latentd.pipeline.passes.latents import checks_nan
from latentd.pipeline.passes.previews import show_preview
from latentd.pipeline.planning.sampler_choice import sampler_catalogue, scheduler_in_force
from latentd.sampling.noise import NoiseStream
from latentd.sampling.sampling_schedule import Img2ImgParams, SamplingParams, SamplingSchedule, schedule_sampling
from latentd.sampling.schedule import NoiseSchedule
from latentd.sampling.schedulers import SigmaOverrides
from latentd.sampling.steps import total_steps

if TYPE_CHECKING:
    from latentd.pipeline.generation import RunningGeneration
    from latentd.pipeline.passes.refiner import Refiner
    from latentd.sampling.spec import SamplerSpec
    from latentd.types import OptionValues, PassName

T = TypeVar("T")

_CHURN = {"s_churn": ("Sigma churn", 0.0), "s_tmin": ("Sigma tmin", 0.0), "s_tmax": ("Sigma tmax", math.inf),
          "s_noise": ("Sigma noise", 1.0)}  # fmt: skip


@dataclass(slots=True, kw_only=True)
class PassInputs:
    """The inputs of one pass. ``init`` [B,4,h,w] and ``img2img`` are set for img2img and hires fix, else None."""

    name: PassName
    choice: SamplerChoice
    steps: int
    stream: NoiseStream
    seeds: list[int]
    view: ModelView
    init: Tensor | None = None
    img2img: Img2ImgParams | None = None
    blend: InpaintBlend | None = None
    refiner: Refiner | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class SamplingPass:
    """A pass that is ready to be sampled, and after sampling its outcome: ``latents`` [B,4,h,w], or ``error``."""

    gen: RunningGeneration
    inputs: PassInputs
    sampling_schedule: SamplingSchedule
    state: PassState
    denoiser: CfgDenoiser
    x: Tensor
    latents: Tensor | None = None
    error: BaseException | None = None

    @property
    def ended(self) -> bool:
        """Whether the pass has its outcome."""
        return self.latents is not None or self.error is not None

    def finish(self, latents: Tensor) -> None:
        """End the pass with ``latents``."""
        if self.inputs.stream.used_ensd:
            self.gen.used_ensd = True
        if self.state.padded is not None:
            self.gen.infotext[self.state.padded] = True
        self.latents = self.gen.latents = latents
        self.gen.control.progress.stage = "finish"
        with suppress(Interrupted):  # it publishes the progress; what is to stop does so where it is checked next
            self.gen.control.check()

    def stop(self, error: BaseException) -> None:
        """End the pass early: after interrupt or skip with the newest predicted clean latent, else with ``error``."""
        stopped = isinstance(error, Interrupted) and self.gen.control.stop_requested() != "cancel"
        if stopped and self.state.last_x0 is not None:
            self.finish(self.state.last_x0)
        else:
            self.error = error

    def begun_anew(self) -> SamplingPass:
        """The same pass from its beginning, as if nothing of it had been sampled."""
        self.inputs.stream.restart()
        return begin_pass(self.gen, self.inputs)

    def step_done(self, i: int, x: Tensor) -> None:
        """Record that the sampler has made step ``i`` of this pass and has the latent ``x`` [B,4,h,w]."""
        gen = self.gen
        gen.control.progress.sampling_step = i
        gen.latents = x
        gen.hooks.after_step(gen)
        if gen.control.preview_due(gen.options):
            with suppress(Interrupted):
                show_preview(gen, self.state)


#: A generation as a Python generator: yields each pass to be sampled, is sent its latents, and returns ``T``.
Sampling: TypeAlias = Generator[SamplingPass, Tensor, T]


def begin_pass(gen: RunningGeneration, inputs: PassInputs) -> SamplingPass:
    """The pass with everything for sampling it; also writes AUTOMATIC1111's infotext entries about samplers."""
    schedule = noise_schedule(gen)
    params = sampling_params(gen, inputs)
    sampling_schedule = schedule_sampling(
        inputs.choice.spec, params, schedule, sampler_catalogue(gen.services), inputs.img2img
    )
    progress = gen.control.progress
    progress.sampling_steps, progress.sampling_step = sampling_schedule.sampling_steps, 0
    progress.stage = "sample"
    note_sampling_infotext(gen, inputs, params)
    noise = gen.hooks.modify_noise(gen, inputs.stream.next())
    x = sampling_schedule.start(noise) if inputs.init is None else sampling_schedule.start_from(inputs.init, noise)
    state = PassState(steps=sampling_schedule.sampling_steps, pass_name=inputs.name)
    denoiser = _denoiser(gen, inputs, sampling_schedule, state)
    gen.pass_name, gen.pass_state = inputs.name, state
    return SamplingPass(
        gen=gen, inputs=inputs, sampling_schedule=sampling_schedule, state=state, denoiser=denoiser, x=x
    )


def noise_schedule(gen: RunningGeneration) -> NoiseSchedule:
    """The model's schedule by options ``use_downcasted_alpha_bar`` and ``sd_noise_schedule``; the infotext names both.

    A model that was trained with zero terminal SNR always has that schedule.
    """
    schedule = NoiseSchedule.scaled_linear(gen.model.linear_start, gen.model.linear_end)
    options = gen.options
    if options["use_downcasted_alpha_bar"]:
        gen.infotext["Downcast alphas_cumprod"] = True
        schedule = schedule.downcast()
    if options["sd_noise_schedule"] == "Zero Terminal SNR":
        gen.infotext["Noise Schedule"] = options["sd_noise_schedule"]
    if gen.model.zero_terminal_snr or options["sd_noise_schedule"] == "Zero Terminal SNR":
        schedule = schedule.zero_terminal_snr()
    return schedule.to(gen.device)


def sampling_params(gen: RunningGeneration, inputs: PassInputs) -> SamplingParams:
    """The numbers for one pass; for churn, an option that is not its default takes precedence over the request."""
    plan, options = gen.plan, gen.options
    spec = inputs.choice.spec
    eta = plan.eta
    if eta is None and spec.eta_option is not None:
        eta = float(options[spec.eta_option])
    churn = {name: _churn(name, getattr(plan, name), options) for name in _CHURN}
    return SamplingParams(
        steps=inputs.steps,
        scheduler=scheduler_in_force(inputs.choice, options, sampler_catalogue(gen.services)),
        eta=eta,
        always_discard_next_to_last_sigma=bool(options["always_discard_next_to_last_sigma"]),
        overrides=SigmaOverrides(
            sigma_min=float(options["sigma_min"]), sigma_max=float(options["sigma_max"]), rho=float(options["rho"])
        ),
        use_old_karras=bool(options["use_old_karras_scheduler_sigmas"]),
        beta_alpha=float(options.get("beta_dist_alpha", 0.6)),
        beta_beta=float(options.get("beta_dist_beta", 0.6)),
        is_sdxl=gen.model.family.startswith("sdxl"),
        sgm_noise_multiplier=bool(options["sgm_noise_multiplier"]),
        options={k: options[k] for k in options if k.startswith("uni_pc_")},
        **churn,
    )


def _churn(name: str, requested: float, options: OptionValues) -> float:
    option = float(options[name])
    if name == "s_tmax" and option == 0:
        option = math.inf
    return option if option != _CHURN[name][1] else requested


def note_sampling_infotext(gen: RunningGeneration, inputs: PassInputs, params: SamplingParams) -> None:
    """Write the infotext entries that AUTOMATIC1111 writes when a sampler is set up, in its order."""
    spec, options, notes = inputs.choice.spec, gen.options, gen.infotext
    if spec.eta_option is not None and params.eta is not None and params.eta != spec.default_eta:
        notes["Eta DDIM" if spec.kind == "timestep" else "Eta"] = params.eta
    for name, (label, default) in _CHURN.items():
        option = _churn(name, default, options)
        taken = spec.uses_s_noise if name == "s_noise" else spec.uses_churn
        if taken and option != default:
            notes[label] = option
    if spec.kind == "sigma":
        _note_schedule(gen, inputs, params)
    if params.always_discard_next_to_last_sigma and not spec.discard_next_to_last_sigma:
        notes["Discard penultimate sigma"] = True
    if inputs.init is None and spec.kind == "sigma" and params.sgm_noise_multiplier:
        notes["SGM noise multiplier"] = True
    if options.get("skip_early_cond", 0.0) > 0:
        notes["Skip Early CFG"] = options["skip_early_cond"]
    if options.get("s_min_uncond_all") and gen.plan.s_min_uncond > 0:
        notes["NGMS all steps"] = True
    if params.scheduler is not None and params.scheduler.label == "Beta":
        notes["Beta schedule alpha"], notes["Beta schedule beta"] = params.beta_alpha, params.beta_beta
    if inputs.img2img is not None:
        if inputs.name == "base" and inputs.img2img.noise_multiplier != 1.0:
            notes["Noise multiplier"] = inputs.img2img.noise_multiplier
        if inputs.img2img.extra_noise > 0:
            notes["Extra noise"] = inputs.img2img.extra_noise


def _note_schedule(gen: RunningGeneration, inputs: PassInputs, params: SamplingParams) -> None:
    if params.scheduler is None:
        return
    notes, options = gen.infotext, gen.options
    if inputs.choice.scheduler is None and gen.plan.sampler.scheduler is None:
        notes["Schedule type"] = options["k_sched_type"]
    for key, label in (("sigma_min", "Schedule min sigma"), ("sigma_max", "Schedule max sigma")):
        if options[key] != 0:
            notes[label] = options[key]
    if options["rho"] != 0 and params.scheduler.default_rho >= 0:
        notes["Schedule rho"] = options["rho"]


def _negative_seen(gen: RunningGeneration, spec: SamplerSpec) -> bool:
    """Whether the sampler, a plugin or a preview uses the prediction from the negative prompt."""
    shown = gen.options["live_previews_enable"] and gen.options["live_preview_content"] == "Negative prompt"
    return spec.needs_uncond_eps or bool(shown) or gen.hooks.sees_guidance


def _denoiser(
    gen: RunningGeneration, inputs: PassInputs, sampling_schedule: SamplingSchedule, state: PassState
) -> CfgDenoiser:
    plan, options = gen.plan, gen.options
    spec = inputs.choice.spec
    kind = TimestepDenoiser if spec.kind == "timestep" else SigmaDenoiser
    guidance = Guidance(
        cfg_scale=plan.cfg_scale * spec.cfg_scale_factor,
        image_cfg_scale=image_guidance(gen),
        s_min_uncond=plan.s_min_uncond,
        s_min_uncond_all=bool(options.get("s_min_uncond_all", False)),
        skip_early=float(options.get("skip_early_cond", 0.0)),
        together=bool(options["batch_cond_uncond"]),
        negative_seen=_negative_seen(gen, spec),
    )
    progress = gen.control.progress

    def before_call(denoiser: CfgDenoiser, level: Tensor) -> None:
        gen.control.check()
        gen.hooks.before_step(gen)
        if inputs.refiner is not None:
            inputs.refiner.maybe_switch(gen, denoiser, level, total_steps(spec, sampling_schedule.sampling_steps))

    return kind(
        view=inputs.view,
        schedule=sampling_schedule.schedule,
        guidance=guidance,
        state=state,
        hooks=gen.unet_hooks,
        blend=inputs.blend,
        quantize=bool(options["enable_quantization"]),
        check_nan=checks_nan(gen),
        nan_hint=lambda: nan_weights(gen.model),
        before_call=before_call,
        check=gen.control.check,
        step_of=lambda: (progress.sampling_step, progress.sampling_steps),
        modify_guidance=partial(gen.hooks.modify_guidance, gen) if gen.hooks.sees_guidance else None,
    )
