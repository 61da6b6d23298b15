"""One generation: its plan, its state while it runs, and the base classes of UNet hooks, scripts and networks.

A plan is complete before anything is computed, and can be pickled. torch appears only in annotations.
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
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

    from latentd.images.region import Box
    from latentd.images.resize import LatentMode
    from latentd.model_services import Model
    from latentd.options.snapshot import Snapshot
    from latentd.prompts.networks import NetworkTag
    from latentd.services import Services
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
    """A sampler with the schedule that the request names for it; None is the sampler's own.

    ``label`` is the name in infotexts.
    """

    spec: SamplerSpec
    scheduler: SchedulerSpec | None
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HiresPlan:
    """The second pass of hires fix.

    ``width`` x ``height`` is the size in pixels to which pictures are enlarged; then ``truncate_x`` and ``truncate_y``
    latent cells are cut. Exactly one of ``latent_mode`` and ``upscaler`` is set.
    """

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
    """A second checkpoint that takes over at the share ``switch_at`` of the schedule; None: at the first call."""

    checkpoint: str
    switch_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptCall:
    """One always-on script of the job with its arguments."""

    script: AnyScript
    args: Any  # of the script's own type


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that is decided about one generation before it runs.

    ``checkpoint`` is a title. ``options`` has the options with the request's overrides. ``infotext`` has the entries
    that are known at planning, in AUTOMATIC1111's order; ``own_infotext`` those of single pictures, if they differ.
    Lists have one entry for each picture, batch after batch.
    ``warnings`` are sentences about parts of the request that are not followed.
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
    own_infotext: tuple[Mapping[str, JsonValue], ...] = ()
    styles: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_img2img(self) -> bool:
        """Whether the request is img2img."""
        return self.request.mode == "img2img"

    @property
    def save_samples(self) -> bool:
        """Whether pictures are written to the output folders."""
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
    """The result of a script's ``plan``: a new plan and new arguments; None for those that stay the same.

    ``finished`` means that an always-on script has nothing to do while the job runs; such a job may share batches.
    """

    plan: Plan | None = None
    args: A | None = None
    finished: bool = False


# --- img2img ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Img2imgInit:
    """The prepared inputs of one img2img job.

    :ivar pictures: RGB at the working size (any size with resize mode 3), one for each init image.
    :ivar mask: mode L at the working size, white is repainted; None without a mask.
    :ivar overlays: pictures that are laid over the results, one for each picture, or none.
    :ivar box: the region that is worked on if only the masked part is.
    :ivar colour_targets: L*a*b* arrays for colour correction, or none.
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
    """The latents with which every batch of one img2img job starts.

    :ivar latent: [B,4,h,w].
    :ivar mask: [1,1,h,w], 1 where the original is kept, or None.
    :ivar nmask: [1,1,h,w], 1 where it is repainted, or None.
    :ivar concat: the model's further input channels, or None.
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
    """One running job as hooks see it. ``conditioning`` and ``latents`` may be replaced, but not the plan."""

    conditioning: Any  # a Conditioning of the core's
    """The prompts of the next batch as tensors, in the core's own form."""
    latents: Tensor | None
    """[B,4,h,w]: the state after the last step; None before the first."""

    @property
    def id(self) -> str:
        """The job's id."""

    @property
    def plan(self) -> Plan:
        """The plan, which was complete before the job began."""

    @property
    def request(self) -> GenerationRequest:
        """The caller's request."""

    @property
    def options(self) -> Mapping[str, JsonValue]:
        """The options of the job, with the request's overrides."""

    @property
    def control(self) -> JobControl:
        """For reporting progress, and for finding out whether to stop."""

    @property
    def services(self) -> Services:
        """The server's services."""

    @property
    def model(self) -> Model:
        """The loaded model in use; the refiner after its switch."""

    @property
    def device(self) -> torch.device:
        """The device on which the UNet computes."""

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
        """The latents with which every batch of an img2img job starts; None in txt2img, and until they are prepared."""

    @property
    def state(self) -> dict[str, Any]:  # each plugin keeps what it likes
        """Values that plugins keep during the job, each under the plugin's name."""

    @property
    def infotext(self) -> dict[str, JsonValue]:
        """Entries for every picture's infotext, in order of insertion."""

    @property
    def leases(self) -> ExitStack:
        """Closed when the job ends, also after an error; enter context managers here, such as leases of models."""

    def warn(self, message: str) -> None:
        """Warn about a part of the request that is not followed; see :meth:`latentd.types.JobControl.warn`."""

    def add_image(self, image: Image, info: Mapping[str, str] | None = None) -> None:
        """Append a picture to the reply, after the generated ones."""


# --- what takes part in it -------------------------------------------------------------------------------------------


class UNetHook:
    """Base of the objects that ``unet_hooks`` returns; override the methods that you need. One object serves one job.

    Order within an evaluation: ``before``, ``residuals``, ``around`` and in it the entry, attention and block handlers,
    ``after``; then, with the guided prediction of the whole batch, ``guide`` of all hooks and ``denoised`` of all.
    ``close`` is always called, also if the job fails. ``owner`` is the plugin that errors name; the core sets it.
    """

    owner: str = ""

    def open(self, generation: Generation) -> None:
        """Called at the beginning of a pass."""

    def before(self, call: UNetCall) -> None:
        """Called before this evaluation; may replace the call's ``sample``, ``context``, ``concat`` and ``added``."""

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
        """The handler of this block's input, or None; asked once per pass."""
        return None

    def around(self, call: UNetCall, evaluate: Evaluate) -> Tensor:
        """The UNet's output [B,C,h,w]: that of ``evaluate(call)``, or the combined result of any number of calls."""
        return evaluate(call)

    def after(self, call: UNetCall, out: Tensor) -> Tensor:
        """The UNet's output [B,C,h,w], changed or not."""
        return out

    def guide(self, step: GuidedStep, x0: Tensor) -> Tensor:
        """The guided prediction of the clean latent [B,C,h,w], changed or not; ``step`` has its inputs."""
        return x0

    def denoised(self, call: UNetCall, x0: Tensor) -> Tensor:
        """The guided prediction of the clean latent [B,C,h,w] of the whole batch, changed or not."""
        return x0

    def close(self) -> None:
        """Called when sampling has ended in any way; drop references to tensors and models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraNetworkSpec:
    """A prompt tag ``<name:...>``: ``activate(generation, tags)`` is called on the worker before conditioning is made.

    ``tags`` are :class:`latentd.prompts.networks.NetworkTag`. If ``activate`` returns a function, that is called when
    the job ends. ``check(services, tag)`` is called when the request is planned, before anything is loaded, and raises
    :class:`latentd.errors.InvalidRequest` for a tag that cannot be carried out.
    """

    name: str
    activate: Callable[[Generation, Sequence[NetworkTag]], Callable[[], None] | None]
    aliases: Sequence[str] = ()
    check: Callable[[Services, NetworkTag], None] = lambda services, tag: None


class Script(ScriptForm[A]):
    """Base of scripts.

    Make a subclass of ``Script[MyArgs]`` with the class of the arguments, set ``title`` and ``Args``, override the
    methods that you need, and return an object from ``register_scripts``.

    The order of the fields of ``Args`` is the order of ``script_args`` and ``alwayson_scripts.X.args``; a list and an
    object are both accepted. An always-on script runs if its title is in ``alwayson_scripts`` (or always, with
    ``always=True``); a selectable one, through :meth:`run`, if ``script_name`` is its title. ``aliases`` are further
    titles that clients may use.
    Every method but :meth:`run` gets the :class:`latentd.api.Generation` and the parsed arguments; an exception fails
    the job with the plugin named.
    """

    def plan(self, plan: Plan, args: A, services: Services) -> Planned[A] | None:
        """Check the arguments against the plan before anything is computed, and raise any 4xx here.

        :return: a new plan or new arguments; None if both stay the same.
        """
        return None

    def model_files(self, services: Services, plan: Plan, args: A) -> Sequence[Path]:
        """Files of models that the script reads, so that a worker on a machine with folders of its own has them.

        Asked for by the arguments after :meth:`plan`. Files outside the folders of models are passed over. The worker's
        folders may be others: look there for the file by its name.
        """
        return ()

    def run(self, services: Services, plan: Plan, args: A, control: JobControl) -> Result:
        """For selectable scripts: carry the plan out, with any number of generations."""
        raise TypeError(f"{self.title!r} is not a selectable script")

    def before_process(self, generation: Generation, args: A) -> None:
        """Called when the models are loaded and nothing is computed yet."""

    def modify_conditioning(self, generation: Generation, args: A) -> None:
        """Called when ``generation.conditioning`` of the next batch is complete; it may be changed."""

    def unet_hooks(self, generation: Generation, args: A) -> Sequence[UNetHook]:
        """Objects that take part in every UNet evaluation of the job."""
        return ()

    def before_batch(self, generation: Generation, args: A) -> None:
        """Called before a batch is sampled."""

    def after_batch(self, generation: Generation, args: A) -> None:
        """Called when a batch's pictures are decoded and not yet finished."""

    def modify_noise(self, generation: Generation, args: A, noise: Tensor) -> Tensor:
        """The start noise [B,C,h,w] of a pass, changed or not."""
        return noise

    def blend_mask(self, generation: Generation, args: A, blend: MaskBlend) -> Tensor | None:
        """Inpainting's blend [B,4,h,w] of ``blend.latent`` with the original latent; None leaves it to the core."""
        return None

    def after_sample(self, generation: Generation, args: A, latents: Tensor) -> Tensor:
        """The sampled latents [B,C,h,w], changed or not."""
        return latents

    def postprocess_image(self, generation: Generation, args: A, image: Image, index: int) -> Image:
        """Picture ``index`` of the batch, changed or not; called before saving."""
        return image

    def overlay(self, generation: Generation, args: A, index: int) -> tuple[Image | None, Image | None] | None:
        """(overlay, overlay mask) for picture ``index``, which replace those of the core; None keeps these."""
        return None

    def after_process(self, generation: Generation, args: A, images: list[GeneratedImage]) -> None:
        """Called when all pictures are finished; ``images`` may be extended."""


AnyScript: TypeAlias = Script[Any]
"""A script with arguments of any type."""
