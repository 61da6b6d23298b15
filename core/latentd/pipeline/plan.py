"""The plan of one generation: what will happen, settled before anything is computed. No torch; picklable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from latentd.contributions import Script
from latentd.images.resize import LatentMode
from latentd.sampling.spec import SamplerSpec, SchedulerSpec
from latentd.types import GenerationRequest

LATENT_DOWNSCALE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerChoice:
    """A sampler with the schedule that the request named for it (None: the sampler's own).

    ``label`` is the name as the infotext writes it.
    """

    spec: SamplerSpec
    scheduler: SchedulerSpec | None
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HiresPlan:
    """The second pass of hires fix. ``width`` x ``height`` is the size enlarged to, in pixels, before
    ``truncate_x``/``truncate_y`` latent cells are cut. Exactly one of ``latent_mode`` and ``upscaler`` is set."""

    width: int
    height: int
    truncate_x: int
    truncate_y: int
    latent_mode: LatentMode | None
    upscaler: str | None
    sampler: SamplerChoice
    steps: int
    denoising_strength: float
    checkpoint: str | None
    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]

    @property
    def final_size(self) -> tuple[int, int]:
        """Width and height in pixels of the finished picture."""
        cells_x = self.width // LATENT_DOWNSCALE - self.truncate_x
        cells_y = self.height // LATENT_DOWNSCALE - self.truncate_y
        return cells_x * LATENT_DOWNSCALE, cells_y * LATENT_DOWNSCALE


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinerPlan:
    """A second checkpoint that takes over at ``switch_at`` of the schedule; None switches at the first call."""

    checkpoint: str
    switch_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptCall:
    """One always-on script of the job with its typed arguments."""

    script: Script
    args: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that one generation needs to know.

    ``checkpoint`` is a title; ``vae`` the effective ``sd_vae`` value. ``options`` is the snapshot with overrides on
    top. ``infotext`` holds entries known at planning, in A1111's order of insertion. The lists have one entry per
    picture, iteration-major. ``warnings`` are sentences about what was asked for and is not followed.
    """

    request: GenerationRequest
    options: Mapping[str, Any]
    checkpoint: str
    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    subseeds: tuple[int, ...]
    width: int
    height: int
    steps: int
    cfg_scale: float
    batch_size: int
    n_iter: int
    sampler: SamplerChoice
    denoising_strength: float | None = None
    restore_faces: bool = False
    tiling: bool = False
    eta: float | None = None
    s_min_uncond: float = 0.0
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = float("inf")
    s_noise: float = 1.0
    initial_noise_multiplier: float = 1.0
    hires: HiresPlan | None = None
    refiner: RefinerPlan | None = None
    script: Script | None = None
    script_args: Any = None
    alwayson: tuple[ScriptCall, ...] = ()
    infotext: Mapping[str, Any] = field(default_factory=dict)
    styles: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_img2img(self) -> bool:
        return self.request.mode == "img2img"

    @property
    def save_samples(self) -> bool:
        return bool(self.options["samples_save"]) and self.request.save_images

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width of the first pass's latent."""
        return self.height // LATENT_DOWNSCALE, self.width // LATENT_DOWNSCALE

    def with_changes(self, **changes: Any) -> Plan:
        """A copy with some fields replaced; for scripts that run several generations."""
        return replace(self, **changes)
