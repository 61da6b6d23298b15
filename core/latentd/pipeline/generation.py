"""A generation while it runs on the worker: what the pipeline shares among its parts, and what hooks see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from latentd.models.architecture import WeightStorage
from latentd.plugins.blame import blamed, blaming
from latentd.types import GeneratedImage, PassName, UNetHook

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.pipeline.denoiser import PassState
    from latentd.pipeline.job_hooks import JobHooks
    from latentd.pipeline.plan import Plan
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

    @property
    def image_cfg_scale(self) -> float | None:
        """The request's value with an instruct-pix2pix model, else None."""
        from latentd.pipeline.image_conditioning import is_edit

        return self.request.image_cfg_scale if is_edit(self.model) and self.plan.is_img2img else None

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

    @contextmanager
    def runner_session(self, name: PassName) -> Iterator[None]:
        """The model's UNet with this job's handlers, for one pass; the refiner's joins through ``pass_stack``."""
        self.pass_name = name
        with ExitStack() as self.pass_stack:
            self.enter_runner(self.model)
            for hook in self.unet_hooks:
                with blamed(hook.owner, f"UNet hook {type(hook).__name__}.open"):
                    hook.open(self)
            yield

    def enter_runner(self, model: Any) -> None:
        """Give ``model``'s UNet the device and this job's handlers until the pass ends."""
        upcast = bool(self.options["upcast_attn"]) or model.policy.upcast_attention
        self.pass_stack.enter_context(model.part("unet"))
        hooks = (*self.all_unet_hooks, *self._token_merging(), *self._hypertile())
        self.pass_stack.enter_context(model.unet_runner.session(hooks, upcast_attention=upcast))

    def _token_merging(self) -> Sequence[UNetHook]:
        from latentd.pipeline.describe import token_merging_ratio
        from latentd.pipeline.token_merging import TokenMerging

        ratio = token_merging_ratio(self, hires=self.pass_name == "hires")
        return [TokenMerging(ratio)] if ratio > 0 else []

    def _hypertile(self) -> Sequence[UNetHook]:
        from latentd.networks.hypertile import Hypertile

        options, hires = self.options, self.plan.hires if self.pass_name == "hires" else None
        if not options["hypertile_enable_unet"] and not (hires and options["hypertile_enable_unet_secondpass"]):
            return []
        rng: Random = self.state.setdefault("hypertile", Random(self.plan.seeds[0]))
        if hires:
            rng.seed(self.plan.seeds[0])
        width, height = (hires.width, hires.height) if hires else (self.plan.width, self.plan.height)
        return [
            Hypertile(
                width=width,
                height=height,
                max_tile=int(options["hypertile_max_tile_unet"]),
                swap_size=int(options["hypertile_swap_size_unet"]),
                max_depth=int(options["hypertile_max_depth_unet"]),
                sdxl=self.model.family.startswith("sdxl"),
                rng=rng,
            )
        ]

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


Cleanup = Callable[[], None]
