"""The state of a generation on the worker, which all parts of the pipeline and hooks use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from latentd.generations import UNetHook
from latentd.models.architecture import WeightStorage
from latentd.plugins.blame import blaming
from latentd.types import GeneratedImage, PassName

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from PIL.Image import Image
    from torch import Tensor

    from latentd.conditioning.schedule import Conditioning
    from latentd.generations import Generation, Img2imgStart, Plan
    from latentd.models.files.checkpoints import CheckpointInfo
    from latentd.models.files.vae_files import VaeInfo
    from latentd.models.loaded import LoadedModel
    from latentd.networks.merge import NetworkRequest
    from latentd.pipeline.job_hooks import JobHooks
    from latentd.pipeline.needs import WorkerServices
    from latentd.pipeline.pass_state import PassState
    from latentd.types import GenerationRequest, JobControl, JsonValue, OptionValues


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The pictures of one iteration. ``index`` counts iterations from 0.

    A part of them begins with that of number ``first``.
    """

    index: int
    first: int = 0
    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    subseeds: tuple[int, ...]
    hires_prompts: tuple[str, ...] = ()
    hires_negative_prompts: tuple[str, ...] = ()

    @classmethod
    def of(cls, plan: Plan, index: int, first: int = 0, stop: int | None = None) -> Batch:
        """Batch number ``index`` of ``plan``, or its pictures ``first`` to ``stop``; empty if the plan has fewer."""
        begin = index * plan.batch_size
        cut = slice(begin + first, begin + (plan.batch_size if stop is None else stop))
        hires = plan.hires
        return cls(
            index=index,
            first=first,
            prompts=plan.prompts[cut],
            negative_prompts=plan.negative_prompts[cut],
            seeds=plan.seeds[cut],
            subseeds=plan.subseeds[cut],
            hires_prompts=hires.prompts[cut] if hires else (),
            hires_negative_prompts=hires.negative_prompts[cut] if hires else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """The job's own checkpoint, which stands in infotexts also while a refiner or hires checkpoint is in use."""

    info: CheckpointInfo
    vae: VaeInfo | None
    is_inpainting: bool
    is_sdxl: bool
    is_fp8: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionedOn:
    """The inputs of the present pass's conditioning, which a refiner encodes again.

    ``steps`` are those of the first pass, ``hires_steps`` those of the second if the conditioning is for that; ``size``
    is (width, height) of the pass in pixels.
    """

    prompts: Sequence[str]
    negatives: Sequence[str]
    steps: int
    hires_steps: int | None
    size: tuple[int, int]


@dataclass(slots=True, kw_only=True, weakref_slot=True, eq=False)
class RunningGeneration:
    """Implements :class:`latentd.generations.Generation`; has everything that a job makes, and is freed with it.

    ``networks`` are those of the prompt's tags, ``networks_acted`` the files that fitted a model of this job.
    ``forgot_conditioning``: whether cached encodings were dropped for this job. ``used_ensd``: whether noise was drawn
    with option ``eta_noise_seed_delta``. ``within``: whether it is a part of another generation. ``cut_short``: whether
    the present batch was ended early, where that was not now and here but on the worker that sampled it.
    """

    plan: Plan
    options: OptionValues
    control: JobControl
    services: WorkerServices
    hooks: JobHooks
    in_use: LoadedModel | None = None
    own: BaseModel | None = None
    pass_name: PassName = "base"
    current: Batch | None = None
    conditioning: Conditioning | None = None
    conditioned_on: ConditionedOn | None = None
    latents: Tensor | None = None
    pass_state: PassState | None = None
    img2img: Img2imgStart | None = None
    networks: tuple[NetworkRequest, ...] = ()
    networks_acted: set[Path] = field(default_factory=set)
    forgot_conditioning: bool = False
    used_ensd: bool = False
    within: bool = False
    cut_short: bool | None = None
    tile_random: Random | None = None
    state: dict[str, Any] = field(default_factory=dict)  # plugins' own
    infotext: dict[str, JsonValue] = field(default_factory=dict)
    unet_hooks: list[UNetHook] = field(default_factory=list)
    given_hooks: Sequence[UNetHook] = ()
    network_hooks: list[UNetHook] = field(default_factory=list)
    extra_images: list[GeneratedImage] = field(default_factory=list)
    leases: ExitStack = field(default_factory=ExitStack)
    pass_stack: ExitStack = field(default_factory=ExitStack)

    @property
    def id(self) -> str:
        """The job's id."""
        return self.control.id

    @property
    def model(self) -> LoadedModel:
        """The loaded model in use; the refiner after its switch."""
        assert self.in_use is not None, "the job's model is loaded first"
        return self.in_use

    @property
    def base(self) -> BaseModel:
        """The job's own checkpoint."""
        assert self.own is not None, "the job's model is loaded first"
        return self.own

    @property
    def request(self) -> GenerationRequest:
        """The caller's request."""
        return self.plan.request

    @property
    def batch(self) -> int:
        """Number of the iteration, from 0."""
        return self.current.index if self.current else 0

    @property
    def device(self) -> torch.device:
        """The device on which the UNet computes."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the UNet's weights."""
        return self.model.dtype

    def warn(self, message: str) -> None:
        """Warn about a part of the request that is not followed, in the log and in the answer."""
        self.control.warn(message)

    def add_image(self, image: Image, info: Mapping[str, str] | None = None) -> None:
        """Append a picture to the reply, after the generated ones."""
        self.extra_images.append(GeneratedImage(image=image, info=dict(info or {}), role="extra"))

    def leave_if_cancelled(self) -> None:
        """Raise :class:`latentd.errors.Interrupted` if the job was cancelled, but not for an interrupt or skip."""
        if self.control.stop_requested() == "cancel":
            self.control.check()

    def lease(self, checkpoint: str) -> LoadedModel:
        """The checkpoint with the VAE that the options choose, kept until the job ends."""
        options = self.options
        lease = self.services.models.lease(
            checkpoint,
            options["sd_vae"],
            vae_overrides=bool(options["sd_vae_overrides_per_model_preferences"]),
            storage=WeightStorage.of(options),
        )
        return self.leases.enter_context(lease)

    def tiles(self) -> Random:
        """The generator that draws Hypertile's tiles, seeded with the job's first seed."""
        if self.tile_random is None:
            self.tile_random = Random(self.plan.seeds[0])
        return self.tile_random

    @property
    def all_unet_hooks(self) -> Sequence[UNetHook]:
        """The UNet hooks of plugins, scripts and networks."""
        return (*self.unet_hooks, *self.network_hooks)

    def close(self) -> None:
        """Close the job's hooks and leases; an exception of a hook is raised after all are closed."""
        with ExitStack() as stack:
            stack.callback(self.leases.close)
            for hook in self.unet_hooks:
                stack.callback(blaming(hook.owner, f"UNet hook {type(hook).__name__}.close", hook.close))
            self.unet_hooks = []


def running(generation: Generation) -> RunningGeneration:
    """``generation`` as the pipeline's own class.

    :raises TypeError: it is of another class, made by a plugin.
    """
    if not isinstance(generation, RunningGeneration):
        raise TypeError(f"{type(generation).__name__} is not a generation that runs here")
    return generation
