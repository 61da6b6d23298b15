"""Values that several layers use: the request, the control of a running job, the result, and the values of hooks.

Only the standard library is imported here; PIL and torch appear only in annotations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn


JsonValue: TypeAlias = Any
"""A JSON value from a request's body, an option, a file or an infotext; its type is checked where it is used."""
OptionValues: TypeAlias = Mapping[str, JsonValue]
"""Effective values of options by key."""
RawArgs: TypeAlias = Sequence[JsonValue] | Mapping[str, JsonValue] | None
"""A script's arguments as they were sent: by position, by name, or none."""

Mode: TypeAlias = Literal["txt2img", "img2img"]
"""Which of the two endpoints a generation is of."""
PassName = Literal["base", "hires"]
StopKind = Literal["interrupt", "skip", "cancel"]
Stage = Literal["prepare", "sample", "finish"]
"""What a generation is at: models, texts and init pictures; a pass of sampling; decoding and saving."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """A validated, immutable request, without torch. Field names and defaults are those of the API (1.8).

    Images are decoded (``PIL.Image``). None means the option's value wherever the API says so.

    :param present: the fields that the caller gave explicitly; an ``infotext`` fills only the others.
    :param warnings: sentences about parts of the request that could not be followed; they are part of the answer.
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
    """AUTOMATIC1111's ``state`` of one job. The worker writes it, any thread may read it; assignments are atomic.

    ``job_count`` is 0 when idle and -1 just after the start; ``sampling_step`` counts the steps done in this pass.
    ``preview_id`` grows with each new ``preview``; ``preview_step`` is the step at which it was made. ``warnings`` are
    sentences about parts of the request that could not be done as asked. ``stage`` is what a generation is at, or was
    when it ended; other work has none.
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
    stage: Stage | None = None

    def next_job(self) -> None:
        """Count a finished batch or pass of hires fix: ``job_no`` grows and the step count starts again."""
        self.job_no += 1
        self.sampling_step = 0
        self.preview_step = 0


class JobControl(Protocol):
    """The engine's interface for a running job, through which the pipeline and hooks report and are stopped."""

    id: str
    progress: ProgressState

    def check(self) -> None:
        """Raise :class:`latentd.errors.Interrupted` if the job was cancelled, interrupted or skipped.

        Call it before every evaluation of the denoiser and before any other slow work; it also publishes the progress.
        """

    def stop_requested(self) -> StopKind | None:
        """Why the work should stop, or None. "cancel" takes precedence over "interrupt", and that over "skip".

        After "interrupt" the latent so far is decoded and returned, and further batches are left out. After "skip" only
        this batch ends early. After "cancel" nothing is returned: do not catch ``Interrupted``.
        """

    def begin_batch(self) -> bool:
        """False if no further batch is wanted because of an interrupt; otherwise a pending skip is reset.

        :raises Interrupted: the job was cancelled.
        """

    def preview_due(self, options: Mapping[str, JsonValue], *, batch_end: bool = False) -> bool:
        """Whether the options for live previews ask for a preview of the present step."""

    def set_preview(self, image: Image) -> None:
        """Show ``image`` as the latest preview of this job."""

    def warn(self, message: str) -> None:
        """Warn that something in the request has no effect, or not the effect asked for, while the job goes on.

        The sentence is logged and added to ``warnings`` of the answer; the same sentence is added only once.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedImage:
    """One picture of a result.

    ``info`` has the text entries of its file (``parameters`` is the infotext). ``role`` is the kind of picture.
    """

    image: Image
    infotext: str | None = None
    info: Mapping[str, str] = field(default_factory=dict)
    role: Literal["image", "grid", "extra"] = "image"
    seed: int | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a generation: the pictures in the order of the reply, and the ``info`` document.

    ``info`` is the mapping of a reply, ready for JSON, in the order of its keys (rules: a1111-info).
    """

    images: tuple[GeneratedImage, ...]
    info: Mapping[str, JsonValue]
    interrupted: bool = False


# --- what UNet hooks see ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSite:
    """One block of the UNet in LDM's numbering: ``input_blocks.4``, ``middle_block``, ``output_blocks.0``."""

    name: str
    kind: Literal["input", "middle", "output"]
    index: int
    channels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSite:
    """One attention of the UNet.

    :param name: path of the module in diffusers.
    :param block: the LDM block to which it belongs.
    :param index: its number among the attentions of its kind, in the order of execution.
    :param width: hidden width in channels.
    """

    name: str
    kind: Literal["self", "cross"]
    block: str
    index: int
    width: int
    heads: int


@dataclass(slots=True, kw_only=True)
class Residuals:
    """Additions to the UNet's features, all optional, with the same rows as the call.

    Tensors of another size are resized to the nearest cell.

    :param down: one tensor for each skip connection in encoder order (12 for SD1, 9 for SDXL), added where the decoder
        reads it.
    :param mid: added to the output of the middle.
    :param intra: by the name of a block (``input_blocks.2``); added to that block's output before anything reads it, as
        T2I-Adapters need it.
    """

    down: Sequence[Tensor] | None = None
    mid: Tensor | None = None
    intra: Mapping[str, Tensor] | None = None


class AttentionHandler(Protocol):
    """Replaces one attention. ``attend(hidden, key_context, value_context=None)`` calls the original one."""

    def __call__(self, call: UNetCall, hidden: Tensor, context: Tensor | None, attend: Attend) -> Tensor:
        """The output [B,n,width] for ``hidden`` [B,n,width] and ``context`` [B,m,d]; None is self-attention."""


class Attend(Protocol):
    """The original attention: queries from ``hidden`` [B,n,width]; keys and values from the contexts [B,m,d]."""

    @property
    def module(self) -> Any:  # diffusers' class does not declare the types of its layers
        """The ``Attention`` of diffusers (to_q, to_k, to_v, to_out, heads); it may be read but not changed."""

    def __call__(self, hidden: Tensor, key_context: Tensor | None, value_context: Tensor | None = None) -> Tensor:
        """The output [B,n,width]."""


class BlockHandler(Protocol):
    """Gets the output of one block [B,C,h,w]."""

    def __call__(self, call: UNetCall, output: Tensor) -> Tensor:
        """``output``, changed or not."""


class EntryHandler(Protocol):
    """Gets the input of a block and returns it, changed or not, with the same number of channels.

    ``hidden`` [B,C,h,w] is the output of the block before. ``skip`` [B,C',h',w'] is the skip connection that an output
    block joins to it, with residuals added; None for input blocks and the middle. If their sizes differ after all
    handlers, ``hidden`` is resized to that of ``skip`` by the nearest cell.
    """

    def __call__(self, call: UNetCall, hidden: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """``hidden`` and ``skip``, changed or not."""


class Window(NamedTuple):
    """A part of the latent, in its cells."""

    top: int
    left: int
    height: int
    width: int


class Evaluate(Protocol):
    """The UNet's output [B,C,h,w] for a call, with the handlers and residuals of all hooks.

    If ``windows`` are given, the call's rows are these parts of the whole latent: one window for each run of as many
    rows as the original batch has. Residuals are cut to the windows.
    """

    def __call__(self, call: UNetCall, windows: Sequence[Window] = ()) -> Tensor:
        """The UNet's output [B,C,h,w]."""


class ExtraPass(Protocol):
    """Evaluates a call, and further passes beside it."""

    def extra_pass(self, call: UNetCall, *, sample: Tensor | None, context: Tensor | None, tag: str) -> Tensor:
        """Output [B,C,h,w] of a pass beside ``call``'s own; see :meth:`UNetCall.run`."""


@dataclass(slots=True, kw_only=True)
class UNetCall:
    """One evaluation of the UNet.

    ``sample`` [B,C,h,w] is the input as the UNet takes it (scaled, without extra channels of inpainting models, which
    are in ``concat``); ``sigma`` [B]; ``timestep`` [B] (fractional); ``context`` [B,n,d]; ``added`` the SDXL vector
    [B,k] or None; ``is_cond`` [B] bool; ``image_index`` [B] the row's picture in the batch.
    ``step`` and ``steps`` are those of ControlNet's guidance window (rules: a1111-control-window), ``call_index``
    counts UNet evaluations of this pass. ``run`` makes a further pass and returns its output. ``check``, if any, is
    called between the UNet's modules and raises :class:`latentd.errors.Interrupted` to leave the evaluation.
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
    tags: dict[str, Any] = field(default_factory=dict)  # hooks keep their own values here, each under its own name
    runner: ExtraPass | None = None
    check: Callable[[], None] | None = None

    def run(self, *, sample: Tensor | None = None, context: Tensor | None = None, tag: str = "extra") -> Tensor:
        """Output [B,C,h,w] of a further UNet pass with the same hooks' attention and block handlers.

        Handlers recognise the pass by ``call.tags["pass"] == tag``; residuals are not applied again.
        """
        assert self.runner is not None, "the call is not being evaluated"
        return self.runner.extra_pass(self, sample=sample, context=context, tag=tag)


class Predict(Protocol):
    """A further evaluation of the model within a guided step: the clean latent [B,C,h,w] that it predicts.

    ``latent`` is like :attr:`GuidedStep.latent`; ``positive`` chooses the prompt or the negative prompt; handlers and
    hooks recognise the pass by ``call.tags["pass"] == tag``. Parts of a composed prompt are added by their weights.
    """

    def __call__(self, latent: Tensor, *, positive: bool, tag: str) -> Tensor:
        """The predicted clean latent [B,C,h,w]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedStep:
    """The inputs of a guided prediction; tensors are [B,C,h,w] with one row for each picture, with every sampler.

    :param latent: the noisy latent, scaled as ``clean + sigma * noise``.
    :param sigma: its noise level [B].
    :param timestep: [B], counted from 0, the cleanest.
    :param cond: the clean latent predicted from the prompt.
    :param uncond: the clean latent predicted from the negative prompt; None if that was left out at this step.
    :param cfg_scale: the scale by which they were combined.
    :param call: the last call of the UNet.
    :param predict: makes a further call.
    """

    latent: Tensor
    sigma: Tensor
    timestep: Tensor
    cond: Tensor
    uncond: Tensor | None
    cfg_scale: float
    call: UNetCall
    predict: Predict
