"""The samplers and schedulers that AUTOMATIC1111 offers, and which of them the names in a request mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from latentd.sampling.spec import ETA_ANCESTRAL, ETA_DDIM, SamplerSpec, SchedulerSpec

_SAMPLERS = "latentd.sampling.samplers"
_SCHEDULERS = "latentd.sampling.schedulers"

_DPMPP_2M = SamplerSpec(name="DPM++ 2M", function=f"{_SAMPLERS}.dpmpp:sample_dpmpp_2m", automatic_scheduler="karras")
_DPMPP_SDE = SamplerSpec(
    name="DPM++ SDE",
    function=f"{_SAMPLERS}.dpmpp_sde:sample_dpmpp_sde",
    automatic_scheduler="karras",
    second_order=True,
    brownian=True,
    eta_option=ETA_ANCESTRAL,
    uses_s_noise=True,
)
_DPMPP_2M_SDE = SamplerSpec(
    name="DPM++ 2M SDE",
    function=f"{_SAMPLERS}.dpmpp_sde:sample_dpmpp_2m_sde",
    automatic_scheduler="exponential",
    brownian=True,
    eta_option=ETA_ANCESTRAL,
    uses_s_noise=True,
)
_DPMPP_2M_SDE_HEUN = replace(_DPMPP_2M_SDE, name="DPM++ 2M SDE Heun", solver_type="heun")
_DPMPP_3M_SDE = SamplerSpec(
    name="DPM++ 3M SDE",
    function=f"{_SAMPLERS}.dpmpp_sde:sample_dpmpp_3m_sde",
    automatic_scheduler="exponential",
    discard_next_to_last_sigma=True,
    brownian=True,
    eta_option=ETA_ANCESTRAL,
    uses_s_noise=True,
)
_DPMPP_2S_A = SamplerSpec(
    name="DPM++ 2S a",
    function=f"{_SAMPLERS}.dpmpp:sample_dpmpp_2s_ancestral",
    automatic_scheduler="karras",
    uses_ensd=True,
    second_order=True,
    eta_option=ETA_ANCESTRAL,
    uses_s_noise=True,
)
_LMS = SamplerSpec(name="LMS", function=f"{_SAMPLERS}.lms:sample_lms")
_DPM2 = SamplerSpec(
    name="DPM2",
    function=f"{_SAMPLERS}.dpm2:sample_dpm_2",
    automatic_scheduler="karras",
    discard_next_to_last_sigma=True,
    second_order=True,
    uses_churn=True,
    uses_s_noise=True,
)
_DPM2_A = SamplerSpec(
    name="DPM2 a",
    function=f"{_SAMPLERS}.dpm2:sample_dpm_2_ancestral",
    automatic_scheduler="karras",
    discard_next_to_last_sigma=True,
    uses_ensd=True,
    second_order=True,
    eta_option=ETA_ANCESTRAL,
    uses_s_noise=True,
)
_EULER_A = SamplerSpec(
    name="Euler a",
    function=f"{_SAMPLERS}.euler:sample_euler_ancestral",
    aliases=("k_euler_a", "k_euler_ancestral"),
    uses_ensd=True,
    eta_option=ETA_ANCESTRAL,
)
_EULER = SamplerSpec(
    name="Euler",
    function=f"{_SAMPLERS}.euler:sample_euler",
    aliases=("k_euler",),
    uses_churn=True,
    uses_s_noise=True,
)
_HEUN = SamplerSpec(
    name="Heun",
    function=f"{_SAMPLERS}.heun:sample_heun",
    aliases=("k_heun",),
    second_order=True,
    uses_churn=True,
    uses_s_noise=True,
)
_DPM_FAST = SamplerSpec(
    name="DPM fast",
    function=f"{_SAMPLERS}.dpm_solver:sample_dpm_fast",
    aliases=("k_dpm_fast",),
    uses_ensd=True,
    eta_option=ETA_ANCESTRAL,
    uses_s_noise=True,
    ignores_schedule=True,
)
_DPM_ADAPTIVE = SamplerSpec(
    name="DPM adaptive",
    function=f"{_SAMPLERS}.dpm_solver:sample_dpm_adaptive",
    aliases=("k_dpm_ad",),
    uses_ensd=True,
    eta_option=ETA_ANCESTRAL,
    ignores_schedule=True,
    couples_batch=True,
)
_RESTART = SamplerSpec(
    name="Restart",
    function=f"{_SAMPLERS}.restart:sample_restart",
    aliases=("restart",),
    scheduler="karras",
    automatic_scheduler="karras",
    second_order=True,
)
_DDIM = SamplerSpec(
    name="DDIM", function=f"{_SAMPLERS}.ddim:sample_ddim", aliases=("ddim",), kind="timestep", eta_option=ETA_DDIM
)
_DDIM_CFGPP = replace(
    _DDIM,
    name="DDIM CFG++",
    function=f"{_SAMPLERS}.ddim:sample_ddim_cfgpp",
    aliases=("ddim_cfgpp",),
    cfg_scale_factor=1 / 12.5,
    needs_uncond_eps=True,
    listed=False,
)
_PLMS = SamplerSpec(name="PLMS", function=f"{_SAMPLERS}.plms:sample_plms", aliases=("plms",), kind="timestep")
_UNIPC = SamplerSpec(name="UniPC", function=f"{_SAMPLERS}.unipc:sample_unipc", aliases=("unipc",), kind="timestep")
_LCM = SamplerSpec(name="LCM", function=f"{_SAMPLERS}.lcm:sample_lcm", aliases=("k_lcm",), lcm_schedule=True)


def _named(spec: SamplerSpec, alias: str, scheduler: str | None = None) -> SamplerSpec:
    name = f"{spec.name} {scheduler.capitalize()}" if scheduler else spec.name
    return replace(spec, name=name, aliases=(alias,), scheduler=scheduler)


SAMPLERS_1_8: tuple[SamplerSpec, ...] = (
    _named(_DPMPP_2M, "k_dpmpp_2m_ka", "karras"),
    _named(_DPMPP_SDE, "k_dpmpp_sde_ka", "karras"),
    _named(_DPMPP_2M_SDE, "k_dpmpp_2m_sde_exp", "exponential"),
    _named(_DPMPP_2M_SDE, "k_dpmpp_2m_sde_ka", "karras"),
    _EULER_A,
    _EULER,
    _named(_LMS, "k_lms"),
    _HEUN,
    _named(_DPM2, "k_dpm_2"),
    _named(_DPM2_A, "k_dpm_2_a"),
    _named(_DPMPP_2S_A, "k_dpmpp_2s_a"),
    _named(_DPMPP_2M, "k_dpmpp_2m"),
    _named(_DPMPP_SDE, "k_dpmpp_sde"),
    _named(_DPMPP_2M_SDE, "k_dpmpp_2m_sde_ka"),  # the original's alias, though it says Karras
    _named(_DPMPP_2M_SDE_HEUN, "k_dpmpp_2m_sde_heun"),
    _named(_DPMPP_2M_SDE_HEUN, "k_dpmpp_2m_sde_heun_ka", "karras"),
    _named(_DPMPP_2M_SDE_HEUN, "k_dpmpp_2m_sde_heun_exp", "exponential"),
    _named(_DPMPP_3M_SDE, "k_dpmpp_3m_sde"),
    _named(_DPMPP_3M_SDE, "k_dpmpp_3m_sde_ka", "karras"),
    _named(_DPMPP_3M_SDE, "k_dpmpp_3m_sde_exp", "exponential"),
    _DPM_FAST,
    _DPM_ADAPTIVE,
    _named(_LMS, "k_lms_ka", "karras"),
    replace(_named(_DPM2, "k_dpm_2_ka", "karras"), uses_ensd=True),
    _named(_DPM2_A, "k_dpm_2_a_ka", "karras"),
    _named(_DPMPP_2S_A, "k_dpmpp_2s_a_ka", "karras"),
    _RESTART,
    _DDIM,
    _PLMS,
    _UNIPC,
    _LCM,
)
"""The samplers of AUTOMATIC1111 1.8.0 in the order of its ``/sdapi/v1/samplers``."""

SAMPLERS_LATER: tuple[SamplerSpec, ...] = (_DDIM_CFGPP,)
"""Samplers of later releases: accepted in requests, left out of the list that 1.8.0 answers."""

SCHEDULERS: tuple[SchedulerSpec, ...] = (
    SchedulerSpec(name="automatic", label="Automatic", function=None),
    SchedulerSpec(name="uniform", label="Uniform", function=f"{_SCHEDULERS}:uniform", need_inner_model=True),
    SchedulerSpec(name="karras", label="Karras", function=f"{_SCHEDULERS}:karras", default_rho=7.0),
    SchedulerSpec(name="exponential", label="Exponential", function=f"{_SCHEDULERS}:exponential"),
    SchedulerSpec(
        name="polyexponential", label="Polyexponential", function=f"{_SCHEDULERS}:polyexponential", default_rho=1.0
    ),
    SchedulerSpec(
        name="sgm_uniform",
        label="SGM Uniform",
        function=f"{_SCHEDULERS}:sgm_uniform",
        aliases=("SGMUniform",),
        need_inner_model=True,
    ),
    SchedulerSpec(name="kl_optimal", label="KL Optimal", function=f"{_SCHEDULERS}:kl_optimal"),
    SchedulerSpec(name="align_your_steps", label="Align Your Steps", function=f"{_SCHEDULERS}:align_your_steps"),
    SchedulerSpec(name="simple", label="Simple", function=f"{_SCHEDULERS}:simple", need_inner_model=True),
    SchedulerSpec(name="normal", label="Normal", function=f"{_SCHEDULERS}:normal", need_inner_model=True),
    SchedulerSpec(name="ddim", label="DDIM", function=f"{_SCHEDULERS}:ddim", need_inner_model=True),
    SchedulerSpec(name="beta", label="Beta", function=f"{_SCHEDULERS}:beta", need_inner_model=True),
    SchedulerSpec(name="turbo", label="Turbo", function=f"{_SCHEDULERS}:turbo", need_inner_model=True),
    SchedulerSpec(
        name="align_your_steps_GITS", label="Align Your Steps GITS", function=f"{_SCHEDULERS}:align_your_steps_gits"
    ),
    SchedulerSpec(name="align_your_steps_11", label="Align Your Steps 11", function=f"{_SCHEDULERS}:align_your_steps"),
    SchedulerSpec(
        name="align_your_steps_32", label="Align Your Steps 32", function=f"{_SCHEDULERS}:align_your_steps_32"
    ),
)
"""The schedulers of AUTOMATIC1111 1.10 and, after them, Forge's own, in the order of ``/sdapi/v1/schedulers``."""


class SamplerCatalogue:
    """All samplers and schedulers of a server, looked up by name."""

    def __init__(
        self,
        *,
        samplers: Iterable[SamplerSpec] = SAMPLERS_1_8 + SAMPLERS_LATER,
        schedulers: Iterable[SchedulerSpec] = SCHEDULERS,
    ) -> None:
        self._samplers = {spec.name: spec for spec in samplers}
        self._schedulers = {spec.name: spec for spec in schedulers}
        # An alias that two samplers have means the later one, as in AUTOMATIC1111.

    def __iter__(self) -> Iterator[SamplerSpec]:
        """The listed samplers in the order of registration."""
        return (spec for spec in self._samplers.values() if spec.listed)

    @property
    def schedulers(self) -> tuple[SchedulerSpec, ...]:
        """All schedulers in the order of registration."""
        return tuple(self._schedulers.values())

    def sampler(self, name: str) -> SamplerSpec | None:
        """The sampler of exactly this name, or ``None``."""
        return self._samplers.get(name)

    def scheduler(self, name: str) -> SchedulerSpec | None:
        """The scheduler whose name, label or alias this is, in any case of letters, or ``None``."""
        wanted = name.lower()
        for spec in self._schedulers.values():
            if wanted in (key.lower() for key in (spec.name, spec.label, *spec.aliases)):
                return spec
        return None

    def names(self) -> list[str]:
        """Every name that a request may give, for near matches in error messages."""
        return list(self._samplers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSampler:
    """A sampler, and the scheduler that the request named for it (``None``: the sampler's own)."""

    sampler: SamplerSpec
    scheduler: SchedulerSpec | None


def resolve_sampler(name: str, scheduler: str | None, registry: SamplerCatalogue) -> ResolvedSampler | None:
    """The sampler and scheduler that a request means, or ``None`` if the sampler is unknown.

    Names of 1.8 ("DPM++ 2M Karras") include a schedule, which the request's scheduler overrides. With the scheduler
    "Automatic", which clients of 1.9 and later send, a name without schedule has the schedule of those releases:
    "DPM++ 2M" is "DPM++ 2M Karras". Without a scheduler such a name means the model's own schedule, as in 1.8. An
    unknown scheduler counts as "Automatic", as in 1.9.
    """
    spec, suffix = registry.sampler(name), None
    if spec is None:
        split = _split_suffix(name, registry)
        if split is None:
            return None
        spec, suffix = split
    chosen = registry.scheduler(scheduler) if scheduler else None
    if chosen is not None and chosen.function is not None:
        return ResolvedSampler(sampler=spec, scheduler=chosen)
    if scheduler and suffix is None and spec.scheduler is None and spec.automatic_scheduler:
        suffix = registry.scheduler(spec.automatic_scheduler)
    return _with_scheduler(spec, suffix, registry)


def _split_suffix(name: str, registry: SamplerCatalogue) -> tuple[SamplerSpec, SchedulerSpec] | None:
    """The sampler and the scheduler that a name such as "Euler Karras" consists of, as in 1.9 and later."""
    for scheduler in registry.schedulers:
        for ending in (scheduler.label, scheduler.name, *scheduler.aliases):
            if name.endswith(f" {ending}"):
                spec = registry.sampler(name[: -len(ending) - 1])
                if spec is not None:
                    return spec, scheduler
    return None


def _with_scheduler(spec: SamplerSpec, scheduler: SchedulerSpec | None, registry: SamplerCatalogue) -> ResolvedSampler:
    """``spec`` with ``scheduler``, as the sampler that has this schedule in its name where there is one.

    A scheduler without function means the sampler's own.
    """
    if scheduler is None or scheduler.function is None or scheduler.name == spec.scheduler:
        return ResolvedSampler(sampler=spec, scheduler=None)
    twin = registry.sampler(f"{spec.name} {scheduler.label}") if spec.scheduler is None else None
    if twin is not None and twin.function == spec.function:
        return ResolvedSampler(sampler=twin, scheduler=None)
    return ResolvedSampler(sampler=spec, scheduler=scheduler)
