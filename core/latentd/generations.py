"""One generation: its plan, how it stands while it runs, and what takes part in it: UNet hooks, scripts, networks.

A plan says what will happen, settled before anything is computed; it is picklable. No torch but in annotations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from latentd.contributions import ScriptForm
from latentd.sampling.spec import SamplerSpec, SchedulerSpec
from latentd.types import GenerationRequest, JsonValue

if TYPE_CHECKING:
    from contextlib import ExitStack

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

    from latentd.images.region import Box
    from latentd.images.resize import LatentMode
    from latentd.options.snapshot import Snapshot
    from latentd.prompts.networks import NetworkTag
    from latentd.services import Model, Services
    from latentd.types import (
        AttentionHandler,
        AttentionSite,
        BlockHandler,
        BlockSite,
        EntryHandler,
        Evaluate,
        GeneratedImage,
        GuidedStep,
        JobControl,
        PassName,
        Residuals,
        Result,
        UNetCall,
    )

LATENT_DOWNSCALE = 8

A = TypeVar("A")


# --- the plan --------------------------------------------------------------------------------------------------------


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

    script: AnyScript
    args: Any  # of the script's own type


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that one generation needs to know.

    ``checkpoint`` is a title. ``options`` is the snapshot with overrides on top. ``infotext`` holds entries known at
    planning, in A1111's order of insertion. The lists have one entry per picture, iteration-major. ``warnings`` are
    sentences about what was asked for and is not followed.
    """

    request: GenerationRequest
    options: Snapshot
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
    script: AnyScript | None = None
    script_args: Any = None  # of the script's own type
    alwayson: tuple[ScriptCall, ...] = ()
    infotext: Mapping[str, JsonValue] = field(default_factory=dict)
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

    def with_changes(self, **changes: Any) -> Plan:  # as dataclasses.replace, whose types mypy does not check either
        """A copy with some fields replaced; for scripts that run several generations."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned(Generic[A]):
    """What a script's ``plan`` makes of a plan and of its own arguments; None leaves either as it was."""

    plan: Plan | None = None
    args: A | None = None


# --- img2img ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Img2imgInit:
    """The prepared inputs of one img2img job.

    ``pictures``: RGB at the working size (any size with resize mode 3), one per init image. ``mask``: L at the working
    size, white is repainted, or None. ``overlays``: what is laid over the result, one per picture, or none.
    ``box``: the region worked on when only the masked part is. ``colour_targets``: L*a*b* arrays, or none.
    """

    pictures: list[Image] = field(default_factory=list)
    mask: Image | None = None
    overlay_mask: Image | None = None
    overlays: list[Image] = field(default_factory=list)
    box: Box | None = None
    colour_targets: list[NDArray[np.uint8]] = field(default_factory=list)
    infotext: dict[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Img2imgStart:
    """The latents that every batch of one img2img job starts from.

    ``latent`` [B,4,h,w]; ``mask`` and ``nmask`` [1,1,h,w] (1 keeps, 1 repaints) or None; ``concat`` as the model wants.
    """

    init: Img2imgInit
    latent: Tensor
    mask: Tensor | None
    nmask: Tensor | None
    concat: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class MaskBlend:
    """One inpainting blend of ``latent`` [B,4,h,w] with the original.

    ``level`` [B] is the sigma, or with timestep samplers the timestep; None at the end (``final``). ``start`` has the
    original ``latent`` and the masks.
    """

    latent: Tensor
    level: Tensor | None
    start: Img2imgStart
    final: bool


# --- the generation while it runs ------------------------------------------------------------------------------------


class Generation(Protocol):
    """One running job as hooks see it. ``conditioning`` and ``latents`` may be replaced; the plan stands."""

    conditioning: Any
    """The prompts of the coming batch as tensors, in the core's own form."""
    latents: Tensor | None
    """[B,4,h,w]: the state after the last step; None before the first."""

    @property
    def id(self) -> str:
        """The job's id."""

    @property
    def plan(self) -> Plan:
        """What was settled before the job began."""

    @property
    def request(self) -> GenerationRequest:
        """What the caller asked for."""

    @property
    def options(self) -> Mapping[str, JsonValue]:
        """The snapshot of the options, with the request's overrides on top."""

    @property
    def control(self) -> JobControl:
        """Progress, and whether to stop."""

    @property
    def services(self) -> Services:
        """What the server offers."""

    @property
    def model(self) -> Model:
        """The loaded model in use; the refiner after its switch."""

    @property
    def device(self) -> torch.device:
        """Where the UNet computes."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the UNet's weights."""

    @property
    def batch(self) -> int:
        """Number of the iteration, from 0."""

    @property
    def pass_name(self) -> PassName:
        """``base`` or ``hires``."""

    @property
    def img2img(self) -> Img2imgStart | None:
        """What every batch of an img2img job starts from; None in txt2img, and until it is prepared."""

    @property
    def state(self) -> dict[str, Any]:  # each plugin keeps what it likes
        """For what a plugin keeps during the job; use your plugin's name as the key."""

    @property
    def infotext(self) -> dict[str, JsonValue]:
        """Entries for every picture's infotext, in order of insertion."""

    @property
    def leases(self) -> ExitStack:
        """Closed when the job ends, however it does: enter what must be given back (leases of models)."""

    def warn(self, message: str) -> None:
        """Tell the caller that something asked for does not act as asked; see :meth:`latentd.types.JobControl.warn`."""

    def add_image(self, image: Image, info: Mapping[str, str] | None = None) -> None:
        """Append a picture to the reply, after the generated ones."""


# --- what takes part in it -------------------------------------------------------------------------------------------


class UNetHook:
    """Base of what ``unet_hooks`` returns: override what you need. One object serves one job.

    Order within an evaluation: ``before``, ``residuals``, ``around`` and in it the entry, attention and block handlers,
    ``after``; then, with the guided prediction of the whole batch, ``guide`` of all hooks and ``denoised`` of all.
    ``close`` always runs, also when the job fails.
    ``owner`` is the plugin that is named when the hook fails; the core sets it.
    """

    owner: str = ""

    def open(self, generation: Generation) -> None:
        """The pass begins."""

    def before(self, call: UNetCall) -> None:
        """May change ``call.sample``, ``call.context``, ``call.concat`` and ``call.added`` in place of this call."""

    def residuals(self, call: UNetCall) -> Residuals | None:
        """Additions for this evaluation; the core sums those of all hooks."""
        return None

    def attention(self, site: AttentionSite) -> AttentionHandler | None:
        """The handler for this site, or None; asked once per pass."""
        return None

    def block(self, site: BlockSite) -> BlockHandler | None:
        """The handler for this block's output, or None; asked once per pass."""
        return None

    def entry(self, site: BlockSite) -> EntryHandler | None:
        """The handler of what goes into this block, or None; asked once per pass."""
        return None

    def around(self, call: UNetCall, evaluate: Evaluate) -> Tensor:
        """The UNet's output [B,C,h,w]: that of ``evaluate(call)``, or of as many calls as you make of it."""
        return evaluate(call)

    def after(self, call: UNetCall, out: Tensor) -> Tensor:
        """The UNet's output [B,C,h,w], changed or not."""
        return out

    def guide(self, step: GuidedStep, x0: Tensor) -> Tensor:
        """The guided prediction of the clean latent [B,C,h,w], changed or not; ``step`` tells what it is made from."""
        return x0

    def denoised(self, call: UNetCall, x0: Tensor) -> Tensor:
        """The guided prediction of the clean latent [B,C,h,w] of the whole batch, changed or not."""
        return x0

    def close(self) -> None:
        """The job has left sampling, however it ended: drop what you hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraNetworkSpec:
    """A prompt tag ``<name:...>``: ``activate(generation, tags)`` on the worker before conditioning is made.

    ``tags`` are :class:`latentd.prompts.networks.NetworkTag`; what ``activate`` returns is called when the job ends.
    ``check(services, tag)`` raises :class:`latentd.errors.InvalidRequest` when the request is planned, before anything
    is loaded, for a tag that cannot be carried out.
    """

    name: str
    activate: Callable[[Generation, Sequence[NetworkTag]], Callable[[], None] | None]
    aliases: Sequence[str] = ()
    check: Callable[[Services, NetworkTag], None] = lambda services, tag: None


class Script(ScriptForm[A]):
    """Base of scripts. Subclass with the class of the parsed arguments (``Script[MyArgs]``), set ``title`` and
    ``Args``, override the methods you need, return it from ``register_scripts``.

    The order of ``Args``' fields is the positional order of ``script_args`` and ``alwayson_scripts.X.args``; a list and
    an object are both accepted. An always-on script runs when its title stands in ``alwayson_scripts`` (or always, with
    ``always=True``); a selectable one when ``script_name`` names it, through :meth:`run`. ``aliases`` are further
    titles under which clients may ask for it.
    Every method but :meth:`run` gets the :class:`latentd.api.Generation` and the parsed arguments; an exception fails
    the job with the plugin named.
    """

    def plan(self, plan: Plan, args: A, services: Services) -> Planned[A] | None:
        """Validate against the plan before anything is computed; raise a 4xx here.

        :return: another plan or other arguments to go on with; None leaves both as they are.
        """
        return None

    def run(self, services: Services, plan: Plan, args: A, control: JobControl) -> Result:
        """Selectable scripts: carry the plan out (with as many generations as needed)."""
        raise TypeError(f"{self.title!r} is not a selectable script")

    def before_process(self, generation: Generation, args: A) -> None: ...

    def modify_conditioning(self, generation: Generation, args: A) -> None: ...

    def unet_hooks(self, generation: Generation, args: A) -> Sequence[UNetHook]:
        return ()

    def before_batch(self, generation: Generation, args: A) -> None: ...

    def after_batch(self, generation: Generation, args: A) -> None: ...

    def modify_noise(self, generation: Generation, args: A, noise: Tensor) -> Tensor:
        """The noise [B,C,h,w] that a pass starts with, changed or not."""
        return noise

    def blend_mask(self, generation: Generation, args: A, blend: MaskBlend) -> Tensor | None:
        """Inpainting's blend [B,4,h,w] of ``blend.latent`` with the original latent; None leaves it to the core."""
        return None

    def after_sample(self, generation: Generation, args: A, latents: Tensor) -> Tensor:
        return latents

    def postprocess_image(self, generation: Generation, args: A, image: Image, index: int) -> Image:
        return image

    def overlay(self, generation: Generation, args: A, index: int) -> tuple[Image | None, Image | None] | None:
        """(overlay, overlay mask) for picture ``index`` in place of the core's; None leaves them."""
        return None

    def after_process(self, generation: Generation, args: A, images: list[GeneratedImage]) -> None: ...


AnyScript: TypeAlias = Script[Any]
"""A script among others, each with arguments of a type of its own."""
