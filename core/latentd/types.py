"""Values that cross the layers: the request, the job's face towards the pipeline, the result, and what hooks see.

Only the standard library is imported here; PIL and torch appear in annotations alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn


JsonValue: TypeAlias = Any
"""A value as JSON has it, of a request's body, an option, a file or an infotext: looked at where it is used."""
OptionValues: TypeAlias = Mapping[str, JsonValue]
"""Effective values of options by key."""
RawArgs: TypeAlias = Sequence[JsonValue] | Mapping[str, JsonValue] | None
"""A script's arguments as they were sent: by place, by name, or none."""

Mode: TypeAlias = Literal["txt2img", "img2img"]
"""Which of the two endpoints a generation is of."""
PassName = Literal["base", "hires"]
StopKind = Literal["interrupt", "skip", "cancel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What the caller asked for: validated, frozen, without torch. Field names and defaults are the API's (1.8).

    Images are decoded already (``PIL.Image``). ``present`` names the fields that the caller gave explicitly, which
    decides what an ``infotext`` may fill in. None means "take the option's value" wherever the API says so.
    ``warnings`` tells what reading the request could not follow; they come back with the answer.
    """

    mode: Mode = "txt2img"
    present: frozenset[str] = frozenset()
    prompt: str | Sequence[str] = ""
    negative_prompt: str | Sequence[str] = ""
    styles: tuple[str, ...] = ()
    seed: int = -1
    subseed: int = -1
    subseed_strength: float = 0.0
    seed_resize_from_h: int = -1
    seed_resize_from_w: int = -1
    sampler_name: str | None = None
    sampler_index: str | None = "Euler"
    scheduler: str | None = None
    batch_size: int = 1
    n_iter: int = 1
    steps: int = 50
    cfg_scale: float = 7.0
    width: int = 512
    height: int = 512
    restore_faces: bool | None = None
    tiling: bool | None = None
    eta: float | None = None
    denoising_strength: float | None = None
    s_min_uncond: float | None = None
    s_churn: float | None = None
    s_tmax: float | None = None
    s_tmin: float | None = None
    s_noise: float | None = None
    override_settings: Mapping[str, JsonValue] = field(default_factory=dict)
    override_settings_restore_afterwards: bool = True
    refiner_checkpoint: str | None = None
    refiner_switch_at: float | None = None
    disable_extra_networks: bool = False
    comments: Mapping[str, JsonValue] | None = None
    script_name: str | None = None
    script_args: Sequence[JsonValue] | Mapping[str, JsonValue] = ()
    alwayson_scripts: Mapping[str, JsonValue] = field(default_factory=dict)
    send_images: bool = True
    save_images: bool = False
    force_task_id: str | None = None
    infotext: str | None = None
    warnings: tuple[str, ...] = ()
    # txt2img
    enable_hr: bool = False
    firstphase_width: int = 0
    firstphase_height: int = 0
    hr_scale: float = 2.0
    hr_upscaler: str | None = None
    hr_second_pass_steps: int = 0
    hr_resize_x: int = 0
    hr_resize_y: int = 0
    hr_checkpoint_name: str | None = None
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_prompt: str = ""
    hr_negative_prompt: str = ""
    firstpass_image: Image | None = None
    # img2img
    init_images: tuple[Image, ...] = ()
    resize_mode: int = 0
    image_cfg_scale: float | None = None
    mask: Image | None = None
    latent_mask: Image | None = None
    mask_blur: int | None = None
    mask_blur_x: int = 4
    mask_blur_y: int = 4
    mask_round: bool = True
    inpainting_fill: int = 0
    inpaint_full_res: bool = True
    inpaint_full_res_padding: int = 0
    inpainting_mask_invert: int = 0
    initial_noise_multiplier: float | None = None
    include_init_images: bool = False


@dataclass(slots=True)
class ProgressState:
    """A1111's ``state`` of one job, written by the worker and read by anyone; single assignments are atomic.

    ``job_count`` is 0 when idle and -1 just after the start; ``sampling_step`` counts steps done in this pass.
    ``preview_id`` grows with each new ``preview``; ``preview_step`` is the step it was made at. ``warnings`` are
    sentences about what was asked for and could not be done as asked.
    """

    job: str = ""
    job_count: int = 0
    job_timestamp: str = "0"
    job_no: int = 0
    sampling_step: int = 0
    sampling_steps: int = 0
    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    textinfo: str | None = None
    started_at: float | None = None
    preview: Image | None = None
    preview_id: int = 0
    preview_step: int = 0
    warnings: tuple[str, ...] = ()

    def next_job(self) -> None:
        """A batch, or a pass of hires fix, is done: ``job_no`` grows and the step count starts again."""
        self.job_no += 1
        self.sampling_step = 0
        self.preview_step = 0


class JobControl(Protocol):
    """What the engine gives a running job; the pipeline and hooks talk to the outside through it alone."""

    id: str
    progress: ProgressState

    def check(self) -> None:
        """Raise :class:`latentd.errors.Interrupted` if the job was cancelled, interrupted or skipped.

        Call it before every evaluation of the denoiser and before anything slow; it also publishes the progress.
        """

    def stop_requested(self) -> StopKind | None:
        """Why the work should stop: "cancel" goes before "interrupt", "interrupt" before "skip"; None to go on.

        After "interrupt" the latent so far is decoded and returned and further batches are left out; after "skip"
        only this batch ends early; after "cancel" let ``Interrupted`` pass: nothing is returned.
        """

    def begin_batch(self) -> bool:
        """False when no further batch is wanted (interrupted); else a pending skip is forgotten and True returned.

        :raises Interrupted: the job was cancelled.
        """

    def preview_due(self, options: Mapping[str, JsonValue], *, batch_end: bool = False) -> bool:
        """Whether a preview of the present step should be decoded, by the options for live previews."""

    def set_preview(self, image: Image) -> None:
        """Show ``image`` as the latest preview of this job."""

    def warn(self, message: str) -> None:
        """Tell the caller that something asked for does not act, or not as asked, and the job goes on all the same.

        The sentence is logged and comes back in the answer (``warnings``); one that was said already is not repeated.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedImage:
    """One picture of a result, with the text that belongs to it.

    ``info`` holds str-to-str metadata for the file (``parameters`` is the infotext). ``role`` tells what it is.
    """

    image: Image
    infotext: str | None = None
    info: Mapping[str, str] = field(default_factory=dict)
    role: Literal["image", "grid", "extra"] = "image"
    seed: int | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a generation gave: the pictures in reply order and the ``info`` document.

    ``info`` is the JSON-ready mapping of a reply (rules: a1111-info), key order kept.
    """

    images: tuple[GeneratedImage, ...]
    info: Mapping[str, JsonValue]
    interrupted: bool = False


# --- what UNet hooks see ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSite:
    """One block of the UNet in LDM numbering: ``input_blocks.4``, ``middle_block``, ``output_blocks.0``."""

    name: str
    kind: Literal["input", "middle", "output"]
    index: int
    channels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSite:
    """One attention of the UNet. ``name`` is the module path in diffusers; ``block`` the LDM block it sits in.

    ``index`` counts attentions of this kind in execution order; ``width`` is the hidden width in channels.
    """

    name: str
    kind: Literal["self", "cross"]
    block: str
    index: int
    width: int
    heads: int


@dataclass(slots=True, kw_only=True)
class Residuals:
    """Additions to the UNet's features, all optional, batch-aligned with the call.

    ``down``: one tensor per skip connection in encoder order (12 for SD1, 9 for SDXL), added where the decoder reads
    it; ``mid``: to the middle output; ``intra``: by block name (``input_blocks.2``), added to that block's output
    before anything reads it (T2I-Adapter). Sizes that differ are resized by nearest.
    """

    down: Sequence[Tensor] | None = None
    mid: Tensor | None = None
    intra: Mapping[str, Tensor] | None = None


class AttentionHandler(Protocol):
    """Runs in place of one attention. ``attend(hidden, key_context, value_context=None)`` is the original one."""

    def __call__(self, call: UNetCall, hidden: Tensor, context: Tensor | None, attend: Attend) -> Tensor: ...


class Attend(Protocol):
    """The original attention: queries from ``hidden`` [B,n,width]; keys and values from the contexts [B,m,d].

    ``module`` is the diffusers ``Attention`` (to_q, to_k, to_v, to_out, heads), to be read and never written.
    """

    @property
    def module(self) -> Any: ...  # diffusers' class, which says nothing of its layers' types

    def __call__(self, hidden: Tensor, key_context: Tensor | None, value_context: Tensor | None = None) -> Tensor: ...


class BlockHandler(Protocol):
    """Sees the output of one block [B,C,h,w] and returns it, changed or not."""

    def __call__(self, call: UNetCall, output: Tensor) -> Tensor: ...


class EntryHandler(Protocol):
    """Sees what a block is about to take in, and returns it, changed or not; the number of channels stays.

    ``hidden`` [B,C,h,w] is what the block before gave. ``skip`` [B,C',h',w'] is the skip connection that an output
    block joins to it, with residuals added; None for input blocks and the middle. Where their sizes differ after all
    handlers, ``hidden`` is fitted to ``skip`` by nearest.
    """

    def __call__(self, call: UNetCall, hidden: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor | None]: ...


class Window(NamedTuple):
    """A part of the latent, in its cells."""

    top: int
    left: int
    height: int
    width: int


class Evaluate(Protocol):
    """The UNet's output [B,C,h,w] for a call, with every hook's handlers and residuals.

    ``windows``: the call's rows are these parts of the whole latent, one window for each run of rows as long as the
    original batch; residuals are cut to them.
    """

    def __call__(self, call: UNetCall, windows: Sequence[Window] = ()) -> Tensor: ...


class ExtraPass(Protocol):
    """What evaluates a call, and further passes beside it."""

    def extra_pass(self, call: UNetCall, *, sample: Tensor | None, context: Tensor | None, tag: str) -> Tensor:
        """Output [B,C,h,w] of a pass beside ``call``'s own; see :meth:`UNetCall.run`."""


@dataclass(slots=True, kw_only=True)
class UNetCall:
    """One evaluation of the UNet.

    ``sample`` [B,C,h,w] is the input as the UNet takes it (scaled, without extra channels of inpainting models, which
    are in ``concat``); ``sigma`` [B]; ``timestep`` [B] (fractional); ``context`` [B,n,d]; ``added`` the SDXL vector
    [B,k] or None; ``is_cond`` [B] bool; ``image_index`` [B] the row's picture in the batch.
    ``step`` and ``steps`` are those of ControlNet's guidance window (rules: a1111-control-window), ``call_index``
    counts UNet evaluations of this pass. ``run`` makes a further pass and gives its output.
    """

    sample: Tensor
    sigma: Tensor
    timestep: Tensor
    context: Tensor
    added: Tensor | None
    is_cond: Tensor
    image_index: Tensor
    step: int
    steps: int
    call_index: int
    pass_name: PassName
    refiner: bool = False
    concat: Tensor | None = None
    unet: nn.Module | None = None
    tags: dict[str, Any] = field(default_factory=dict)  # each hook keeps what it likes under a name of its own
    runner: ExtraPass | None = None

    def run(self, *, sample: Tensor | None = None, context: Tensor | None = None, tag: str = "extra") -> Tensor:
        """Output [B,C,h,w] of a further UNet pass with the same hooks' attention and block handlers.

        Handlers tell the passes apart by ``call.tags["pass"] == tag``; residuals are not applied again.
        """
        assert self.runner is not None, "the call is not being evaluated"
        return self.runner.extra_pass(self, sample=sample, context=context, tag=tag)


class Predict(Protocol):
    """A further evaluation of the model within a guided step: the clean latent [B,C,h,w] that it predicts.

    ``latent`` is like :attr:`GuidedStep.latent`; ``positive`` says which prompt is asked; handlers and hooks tell the
    pass by ``call.tags["pass"] == tag``. Parts of a composed prompt are put together by their weights.
    """

    def __call__(self, latent: Tensor, *, positive: bool, tag: str) -> Tensor: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedStep:
    """What a guided prediction was made from; tensors are [B,C,h,w], one row a picture, whatever the sampler.

    ``latent`` is the noisy latent in the scale ``clean + sigma * noise``, ``sigma`` [B] its noise level. ``cond`` and
    ``uncond`` are the clean latents predicted from the prompt and from the negative one (None where it was left out at
    this step); ``cfg_scale`` is the scale they were combined with. ``timestep`` [B] counts from 0, the cleanest.
    ``call`` is the last call of the UNet; ``predict`` makes a further one.
    """

    latent: Tensor
    sigma: Tensor
    timestep: Tensor
    cond: Tensor
    uncond: Tensor | None
    cfg_scale: float
    call: UNetCall
    predict: Predict
