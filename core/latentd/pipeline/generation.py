"""A generation while it runs on the worker: what the pipeline shares among its parts, and what hooks see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from latentd.generations import UNetHook
from latentd.models.architecture import WeightStorage
from latentd.plugins.blame import blaming
from latentd.types import GeneratedImage, PassName

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.generations import Generation, Img2imgStart, Plan
    from latentd.pipeline.job_hooks import JobHooks
    from latentd.pipeline.pass_state import PassState
    from latentd.types import GenerationRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The pictures of one iteration. ``index`` counts iterations from 0."""

    index: int
    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    subseeds: tuple[int, ...]
    hires_prompts: tuple[str, ...] = ()
    hires_negative_prompts: tuple[str, ...] = ()

    @classmethod
    def of(cls, plan: Plan, index: int) -> Batch:
        """Number ``index`` of ``plan``'s batches; empty when the plan has fewer pictures."""
        cut = slice(index * plan.batch_size, (index + 1) * plan.batch_size)
        hires = plan.hires
        return cls(
            index=index,
            prompts=plan.prompts[cut],
            negative_prompts=plan.negative_prompts[cut],
            seeds=plan.seeds[cut],
            subseeds=plan.subseeds[cut],
            hires_prompts=hires.prompts[cut] if hires else (),
            hires_negative_prompts=hires.negative_prompts[cut] if hires else (),
        )


@dataclass(slots=True, kw_only=True, weakref_slot=True, eq=False)
class RunningGeneration:
    """Implements :class:`latentd.services.Generation`. Everything a job makes hangs off this and goes with it."""

    plan: Plan
    options: Mapping[str, Any]
    control: Any
    services: Any
    hooks: JobHooks
    model: Any = None
    pass_name: PassName = "base"
    current: Batch | None = None
    conditioning: Any = None
    latents: Any = None
    pass_state: PassState | None = None
    img2img: Img2imgStart | None = None
    state: dict[str, Any] = field(default_factory=dict)
    infotext: dict[str, Any] = field(default_factory=dict)
    unet_hooks: list[UNetHook] = field(default_factory=list)
    network_hooks: list[UNetHook] = field(default_factory=list)
    extra_images: list[GeneratedImage] = field(default_factory=list)
    leases: ExitStack = field(default_factory=ExitStack)
    pass_stack: ExitStack = field(default_factory=ExitStack)

    @property
    def id(self) -> str:
        return str(self.control.id)

    @property
    def request(self) -> GenerationRequest:
        return self.plan.request

    @property
    def batch(self) -> int:
        return self.current.index if self.current else 0

    @property
    def device(self) -> Any:
        return self.model.device

    @property
    def dtype(self) -> Any:
        return self.model.dtype

    def warn(self, message: str) -> None:
        """Tell the caller that something asked for does not act as asked; logged, and returned with the answer."""
        self.control.warn(message)

    def add_image(self, image: Image, info: Mapping[str, str] | None = None) -> None:
        """Append a picture to the reply, after the generated ones."""
        self.extra_images.append(GeneratedImage(image=image, info=dict(info or {}), role="extra"))

    def leave_if_cancelled(self) -> None:
        """Raise :class:`latentd.errors.Interrupted` if the job was cancelled; an interrupt or a skip passes."""
        if self.control.stop_requested() == "cancel":
            self.control.check()

    def lease(self, checkpoint: str) -> Any:
        """The checkpoint with the VAE that the options choose, kept until the job ends."""
        options = self.options
        lease = self.services.models.lease(
            checkpoint,
            options["sd_vae"],
            vae_overrides=bool(options["sd_vae_overrides_per_model_preferences"]),
            storage=WeightStorage.of(options),
        )
        return self.leases.enter_context(lease)

    @property
    def all_unet_hooks(self) -> Sequence[UNetHook]:
        return (*self.unet_hooks, *self.network_hooks)

    def close(self) -> None:
        """End the job's hooks and leases, however it ended; a hook's error is raised after all are closed."""
        with ExitStack() as stack:
            stack.callback(self.leases.close)
            for hook in self.unet_hooks:
                stack.callback(blaming(hook.owner, f"UNet hook {type(hook).__name__}.close", hook.close))
            self.unet_hooks = []


def running(generation: Generation) -> RunningGeneration:
    """The pipeline's own object behind what a plugin got.

    :raises TypeError: a plugin made it up.
    """
    if not isinstance(generation, RunningGeneration):
        raise TypeError(f"{type(generation).__name__} is not a generation that runs here")
    return generation
