"""What plugins hand to the registries: small values, importable without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from latentd.arguments import beyond, parse_positional

if TYPE_CHECKING:
    from PIL.Image import Image

from latentd.types import GeneratedImage, UNetHook

T = TypeVar("T")
FileKind = Literal["checkpoint", "vae", "lora", "controlnet", "upscaler", "embedding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A weight file that a pip package carries, from ``register_checkpoints``.

    ``name`` is the relative name under which it is listed (``latentd-tiny.safetensors``); networks, embeddings and
    control models go by the name of their file. A file of the same name in the data folder wins. ``default``: serve it
    when the user has no checkpoint of their own.
    """

    path: Path
    name: str
    kind: FileKind = "checkpoint"
    default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """One key of the option store.

    ``default`` gives the type, too; ``choices`` may be a function for lists known only at run time. ``affects`` sorts
    the documentation. ``infotext`` is the key under which a generation writes a value that is not the default, and by
    which a pasted infotext sets it again. ``api_writable`` False: readable over HTTP, settable only in config.json or
    by flag.
    """

    key: str
    default: Any
    help: str
    affects: Literal[
        "generation", "saving", "extras", "interrogation", "models", "api", "runtime", "training", "ui"
    ] = "generation"
    minimum: float | None = None
    maximum: float | None = None
    choices: Sequence[str] | Callable[[], Sequence[str]] | None = None
    nullable: bool = False
    infotext: str | None = None
    api_writable: bool = True
    section: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscalerSpec:
    """An image upscaler. ``upscale(image, scale)`` runs on the worker and may give any size >= the input's.

    A1111's rules (up to three runs, then Lanczos to the size asked for) are applied around it by the core.
    ``model_name``, ``model_path`` and ``scale`` are what ``/sdapi/v1/upscalers`` lists. ``check()`` raises
    :class:`latentd.errors.NotConfigured` before anything is computed when the upscaler cannot run (no file, say).
    """

    name: str
    upscale: Callable[[Image, float, UpscaleContext], Image]
    scale: float | None = 4.0
    model_name: str | None = None
    model_path: str | None = None
    family: str | None = None
    url: str | None = None
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleContext:
    """What an upscaler, restorer, interrogator or preprocessor may use: options, device and the job's cancel check."""

    options: Mapping[str, Any]
    device: str = "cpu"
    check: Callable[[], None] = lambda: None
    services: Any = None

    def lease(
        self, kind: str, path: Path, load: Callable[[], T], size: Callable[[T], int], *, keep: int = 1
    ) -> AbstractContextManager[T]:
        """A context manager that gives the model in ``path``, from the server's cache of models where there is one.

        :param kind: its kind ("upscaler"); at most ``keep`` models of a kind stay loaded.
        :param load: makes the model, on :attr:`device`. :param size: its bytes.
        """
        cache = getattr(getattr(self.services, "models", None), "cache", None)
        if cache is None:
            return nullcontext(load())
        cache.limit(kind, keep)
        stamp = path.stat() if path.exists() else None
        version = (stamp.st_mtime_ns, stamp.st_size) if stamp else ()
        leased: AbstractContextManager[T] = cache.lease((kind, str(path), *version, self.device), load, size)
        return leased


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceRestorerSpec:
    """A face restorer. ``restore(image, weight, context)`` gives the whole picture with its faces restored.

    ``check()`` raises :class:`latentd.errors.NotConfigured` before anything is computed when it cannot run.
    """

    name: str
    restore: Callable[[Image, float | None, UpscaleContext], Image]
    cmd_dir: str | None = None
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterrogatorSpec:
    """An interrogator. ``name`` is the ``model`` of ``/sdapi/v1/interrogate``; gives the caption."""

    name: str
    interrogate: Callable[[Image, UpscaleContext], str]
    aliases: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessorSpec:
    """A ControlNet preprocessor.

    ``run(image, params, context)``: ``image`` is a uint8 RGB or RGBA array [h,w,3|4]; ``params`` holds ``resolution``,
    ``threshold_a``, ``threshold_b``; gives a uint8 array. ``sliders`` are (label, minimum, maximum, default, step).
    """

    name: str
    run: Callable[..., Any]
    label: str | None = None
    tags: Sequence[str] = ()
    sliders: Sequence[tuple[str, float, float, float, float]] = ()
    aliases: Sequence[str] = ()
    needs_mask: bool = False
    model_free: bool = False
    resolution: tuple[int, int, int, int] | None = (64, 2048, 512, 8)
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PostprocessorSpec:
    """A step of the extras endpoints. ``run(image, params, context)`` gives (image, infotext entries)."""

    name: str
    order: int
    run: Callable[[Image, Mapping[str, Any], UpscaleContext], tuple[Image, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraNetworkSpec:
    """A prompt tag ``<name:...>``: ``activate(generation, tags)`` on the worker before conditioning is made.

    ``tags`` are :class:`latentd.prompts.networks.NetworkTag`; what ``activate`` returns is called when the job ends.
    ``check(services, tag)`` raises :class:`latentd.errors.InvalidRequest` when the request is planned, before anything
    is loaded, for a tag that cannot be carried out.
    """

    name: str
    activate: Callable[[Any, Sequence[Any]], Callable[[], None] | None]
    aliases: Sequence[str] = ()
    check: Callable[[Any, Any], None] = lambda services, tag: None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFormatSpec:
    """A checkpoint format beyond the core's. ``recognise(path, keys)`` says whether ``load(path, device)`` applies."""

    name: str
    recognise: Callable[[Path, Sequence[str]], bool]
    load: Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSpec:
    """A readiness check for ``/readyz``: ``check()`` returns None when well, else one sentence."""

    name: str
    check: Callable[[], str | None]


class NoArgs(BaseModel):
    """Arguments of a script that takes none."""

    model_config = ConfigDict(extra="ignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgInfo:
    """One row of ``/sdapi/v1/script-info``; facets that do not apply are None."""

    label: str
    value: Any = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: Sequence[str] | None = None


class Script:
    """Base of scripts. Subclass, set ``title`` and ``Args``, override the methods you need, return it from
    ``register_scripts``.

    The order of ``Args``' fields is the positional order of ``script_args`` and ``alwayson_scripts.X.args``; a list and
    an object are both accepted. An always-on script runs when its title stands in ``alwayson_scripts`` (or always, with
    ``always=True``); a selectable one when ``script_name`` names it, through :meth:`run`.
    Every method but :meth:`run` gets the :class:`latentd.api.Generation` and the parsed arguments; an exception fails
    the job with the plugin named.
    """

    title: str = ""
    modes: Sequence[Literal["txt2img", "img2img"]] = ("txt2img", "img2img")
    alwayson: bool = False
    always: bool = False
    listed: bool = True
    Args: type[BaseModel] = NoArgs

    def arg_info(self, mode: str) -> Sequence[ArgInfo] | None:
        """Rows for ``/script-info``; None derives them from ``Args``."""
        return None

    def parse_args(self, args: Sequence[Any] | Mapping[str, Any] | None, request: Any) -> Any:
        """Typed arguments, or None when the script has nothing to do; None = derived from ``Args`` by the core.

        :raises pydantic.ValidationError: rendered as a 422 with the path of the bad argument.
        """
        return parse_positional(self.Args, args)

    def ignored_args(self, args: Sequence[Any] | Mapping[str, Any] | None, request: Any) -> Sequence[str]:
        """What of ``args``, as they were sent, does not act, in a few words each; the core tells the caller.

        By default: places and names beyond the fields of ``Args``.
        """
        return beyond(self.Args, args)

    def from_infotext(self, entries: Mapping[str, Any], args: Any, mode: Literal["txt2img", "img2img"]) -> Any:
        """Always-on scripts: the ``args`` of ``alwayson_scripts`` that an infotext tells, as this script wrote them.

        :param entries: the infotext's keys and values, as far as its text states them.
        :param args: what the request itself says of this script, None where it says nothing; that wins.
        :return: a list or mapping of arguments; a sentence that says why they cannot be had; None: the infotext tells
            nothing of this script.
        """
        return None

    def plan(self, plan: Any, args: Any, services: Any) -> None:
        """Validate against the plan before anything is computed; raise a 4xx here."""

    def run(self, services: Any, plan: Any, args: Any, control: Any) -> Any:
        """Selectable scripts: carry the plan out (with as many generations as needed) and return a ``Result``."""
        raise TypeError(f"{self.title!r} is not a selectable script")

    def before_process(self, generation: Any, args: Any) -> None: ...

    def modify_conditioning(self, generation: Any, args: Any) -> None: ...

    def unet_hooks(self, generation: Any, args: Any) -> Sequence[UNetHook]:
        return ()

    def before_batch(self, generation: Any, args: Any) -> None: ...

    def after_batch(self, generation: Any, args: Any) -> None: ...

    def modify_noise(self, generation: Any, args: Any, noise: Any) -> Any:
        """The noise [B,C,h,w] that a pass starts with, changed or not."""
        return noise

    def blend_mask(self, generation: Any, args: Any, blend: Any) -> Any:
        """Inpainting's blend of ``blend.latent`` with the original latent; None leaves it to the core."""
        return None

    def after_sample(self, generation: Any, args: Any, latents: Any) -> Any:
        return latents

    def postprocess_image(self, generation: Any, args: Any, image: Image, index: int) -> Image:
        return image

    def overlay(self, generation: Any, args: Any, index: int) -> Any:
        """(overlay, overlay mask) for picture ``index`` in place of the core's; None leaves them."""
        return None

    def after_process(self, generation: Any, args: Any, images: list[GeneratedImage]) -> None: ...


@dataclass(slots=True)
class Contribution:
    """Everything one plugin registered, committed or withdrawn as a whole."""

    plugin: str
    options: list[OptionSpec] = field(default_factory=list)
    routers: list[Any] = field(default_factory=list)
    samplers: list[Any] = field(default_factory=list)
    schedulers: list[Any] = field(default_factory=list)
    upscalers: list[UpscalerSpec] = field(default_factory=list)
    face_restorers: list[FaceRestorerSpec] = field(default_factory=list)
    interrogators: list[InterrogatorSpec] = field(default_factory=list)
    preprocessors: list[PreprocessorSpec] = field(default_factory=list)
    scripts: list[Script] = field(default_factory=list)
    postprocessors: list[PostprocessorSpec] = field(default_factory=list)
    extra_networks: list[ExtraNetworkSpec] = field(default_factory=list)
    checkpoints: list[ModelFile] = field(default_factory=list)
    model_formats: list[ModelFormatSpec] = field(default_factory=list)
    health: list[HealthSpec] = field(default_factory=list)
