"""The server's services for plugins (``Services``), and the specs whose functions use them: upscalers and others.

These are protocols and small values, which can be imported without torch. The classes that implement the protocols are
in ``models``, ``options``, ``plugins`` and ``server``; plugins use the names in this module only.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from latentd.job_services import Queue, WorkJob
from latentd.model_services import Models
from latentd.types import JsonValue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from latentd.contributions import HealthSpec, ModelFile, ModelFormatSpec, ScriptForm
    from latentd.options.snapshot import Snapshot
    from latentd.prompts.styles import Style
    from latentd.sampling.spec import SamplerSpec, SchedulerSpec
    from latentd.settings import Settings
    from latentd.types import GenerationRequest, JobControl, Result

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


# --- options, folders, names -----------------------------------------------------------------------------------------


class Options(Protocol):
    """The option store: the present value of every option."""

    def __getitem__(self, key: str) -> JsonValue: ...

    def snapshot(self, overrides: Mapping[str, JsonValue] | None = None) -> Snapshot:
        """All values with ``overrides`` applied, as a plan has them."""


class Paths(Protocol):
    """Configured folders, absolute."""

    @property
    def data(self) -> Path:
        """The data folder, to which relative paths are relative."""

    def models(self, kind: str) -> list[Path]:
        """Folders of one kind (``Stable-diffusion``, ``Lora``, ``ESRGAN``...), in order of precedence."""

    def model_place(self, path: Path) -> tuple[str, str] | None:
        """The kind of the folder of models that has ``path``, and its name there; None outside those folders."""

    def resolve(self, text: str) -> Path:
        """``text`` as an absolute path; relative ones (output folders) are relative to the data folder."""


class Styles(Protocol):
    """The styles files in their present state."""

    @property
    def by_name(self) -> Mapping[str, Style]:
        """Every style."""


class Network(Protocol):
    """A file of the LoRA family."""

    @property
    def name(self) -> str:
        """The file's stem, which tags name."""

    @property
    def alias(self) -> str:
        """The name in the file's metadata, else :attr:`name`."""

    @property
    def path(self) -> Path:
        """The file's absolute path."""


class Networks(Protocol):
    """The files of the LoRA family."""

    def list(self) -> Sequence[Network]:
        """Every file, sorted by name."""

    def find(self, name: str) -> Network | None:
        """The file that a tag's name means, or None."""


class EmbeddingFile(Protocol):
    """A textual-inversion embedding."""

    @property
    def name(self) -> str:
        """What stands for it in prompts."""

    @property
    def filename(self) -> str:
        """The file's absolute path."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """By text encoder (``clip_l``, ``clip_g``, or ``""`` for the only one) the number and width of its vectors."""


class Embeddings(Protocol):
    """The textual-inversion embeddings."""

    def all(self) -> Mapping[str, EmbeddingFile]:
        """Every embedding by name."""

    def showing(self, embedding: Any) -> AbstractContextManager[None]:  # an Embedding, which needs torch
        """Within it the :class:`latentd.api.Embedding` goes before a file of its name; on this thread only."""


# --- what plugins offer ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """What upscalers, restorers, interrogators, preprocessors and postprocessors may use on the worker.

    :param options: the job's options.
    :param device: the device on which to compute, as torch spells it.
    :param check: raises :class:`latentd.errors.Interrupted` if the job was cancelled; call it before slow work.
    :param services: the server's services; None in tests without a server.
    """

    options: Mapping[str, JsonValue]
    device: str = "cpu"
    check: Callable[[], None] = lambda: None
    services: Services | None = None

    def lease(
        self, kind: str, path: Path, load: Callable[[], T], size: Callable[[T], int], *, keep: int = 1
    ) -> AbstractContextManager[T]:
        """A context manager for the model in ``path``, from the server's cache of models if there is one.

        :param kind: its kind ("upscaler"); at most ``keep`` models of a kind stay loaded.
        :param load: loads the model on :attr:`device`.
        :param size: returns the model's bytes.
        """
        if self.services is None:
            return nullcontext(load())
        cache = self.services.models.cache
        cache.limit(kind, keep)
        stamp = path.stat() if path.exists() else None
        version = (stamp.st_mtime_ns, stamp.st_size) if stamp else ()
        return cache.lease((kind, str(path), *version, self.device), load, size)


UpscaleContext = WorkerContext
"""The former name of :class:`WorkerContext`; it goes with the next minor version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscalerSpec:
    """An image upscaler.

    ``upscale(image, scale, context)`` runs on the worker and may return any size that is not smaller than the input's.
    The core runs it up to three times and then resizes by Lanczos to the size asked for (rules: a1111-extras).
    ``/sdapi/v1/upscalers`` lists ``model_name``, ``model_path`` and ``scale``. ``check()`` raises
    :class:`latentd.errors.NotConfigured` if the upscaler cannot run, for example without its file; it is called before
    anything is computed.
    """

    name: str
    upscale: Callable[[Image, float, WorkerContext], Image]
    scale: float | None = 4.0
    model_name: str | None = None
    model_path: str | None = None
    family: str | None = None
    url: str | None = None
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceRestorerSpec:
    """A face restorer. ``restore(image, weight, context)`` returns the whole picture with its faces restored.

    ``check()`` raises :class:`latentd.errors.NotConfigured` if it cannot run; it is called before anything is computed.
    """

    name: str
    restore: Callable[[Image, float | None, WorkerContext], Image]
    cmd_dir: str | None = None
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """A thing that a detector has found in a picture.

    :param box: left, top, right and bottom in pixels of the picture; within it.
    :param score: how sure the detector is, from 0 to 1.
    :param label: what it is, in the detector's words.
    :param mask: mode L in the picture's size, white where the thing is; None if only its box is known.
    """

    box: tuple[float, float, float, float]
    score: float
    label: str = ""
    mask: Image | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSpec:
    """A detector of faces, hands, persons...

    ``detect(image, confidence, context)`` gets a picture in RGB and the least score, and returns what it finds, surest
    first. ``labels`` are the words of its findings. ``check()`` raises :class:`latentd.errors.NotConfigured` if it
    cannot run; it is called before anything is computed.
    """

    name: str
    detect: Callable[[Image, float, WorkerContext], Sequence[Detection]]
    labels: Sequence[str] = ()
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterrogatorSpec:
    """An interrogator; ``name`` is the ``model`` of ``/sdapi/v1/interrogate``. Its function returns the caption."""

    name: str
    interrogate: Callable[[Image, WorkerContext], str]
    aliases: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessorSpec:
    """A ControlNet preprocessor.

    ``run(image, params, context)`` gets a uint8 RGB or RGBA array [h,w,3|4], and ``params`` with ``resolution``,
    ``threshold_a`` and ``threshold_b``; it returns a uint8 array. ``sliders`` are (label, minimum, maximum, default,
    step).
    """

    name: str
    # The result is a map of pixels, or tensors that one kind of control models reads (CLIP's outputs).
    run: Callable[[NDArray[np.uint8], Mapping[str, JsonValue], WorkerContext], Any]
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
    """A step of the extras endpoints. ``run(image, params, context)`` returns (image, infotext entries)."""

    name: str
    order: int
    run: Callable[[Image, Mapping[str, JsonValue], WorkerContext], tuple[Image, Mapping[str, JsonValue]]]


class Offered(Mapping[str, T_co]):
    """The registered items of one kind, by name and in the order of registration."""

    @abstractmethod
    def owner(self, name: str) -> str:
        """The plugin that offers ``name``.

        :raises KeyError: no plugin does.
        """

    @abstractmethod
    def find(self, name: str) -> T_co | None:
        """The item of this name or alias; if no name fits exactly, regardless of case; else None."""

    @abstractmethod
    def require(self, name: str, *, detail: str | None = None) -> T_co:
        """The item of exactly this name.

        :param detail: the error's message; by default ``Upscaler 'x' not found``.
        :raises NotFound: there is none; the hint has near matches or the package that offers it.
        """


class Registered(Protocol):
    """The registered items, by kind."""

    @property
    def samplers(self) -> Offered[SamplerSpec]:
        """The samplers of the core and of plugins."""

    @property
    def schedulers(self) -> Offered[SchedulerSpec]:
        """The noise schedules of the core and of plugins."""

    @property
    def upscalers(self) -> Offered[UpscalerSpec]:
        """Image upscalers; those of the core first."""

    @property
    def face_restorers(self) -> Offered[FaceRestorerSpec]:
        """Face restorers."""

    @property
    def detectors(self) -> Offered[DetectorSpec]:
        """Detectors of things in pictures."""

    @property
    def interrogators(self) -> Offered[InterrogatorSpec]:
        """Interrogators."""

    @property
    def preprocessors(self) -> Offered[PreprocessorSpec]:
        """ControlNet preprocessors."""

    @property
    def scripts(self) -> Offered[ScriptForm[Any]]:
        """Scripts by title, each with arguments of its own type."""

    @property
    def postprocessors(self) -> Offered[PostprocessorSpec]:
        """Steps of the extras endpoints."""

    @property
    def checkpoints(self) -> Offered[ModelFile]:
        """Weight files in packages, of every kind."""

    @property
    def model_formats(self) -> Offered[ModelFormatSpec]:
        """Checkpoint formats beyond the core's."""

    @property
    def health(self) -> Offered[HealthSpec]:
        """Checks for ``/readyz``."""


# --- the server ------------------------------------------------------------------------------------------------------


class Services(Protocol):
    """The services that a plugin may use."""

    @property
    def settings(self) -> Settings:
        """The process's flags, one attribute each."""

    @property
    def serves_http(self) -> bool:
        """Whether this process answers requests: not so in worker processes, and in commands such as ``generate``."""

    @property
    def options(self) -> Options:
        """The option store."""

    @property
    def models(self) -> Models:
        """The server's models."""

    @property
    def paths(self) -> Paths:
        """The configured folders."""

    @property
    def registry(self) -> Registered:
        """The registered items, by kind and name."""

    @property
    def styles(self) -> Styles:
        """The styles of prompts."""

    @property
    def networks(self) -> Networks:
        """The files of the LoRA family."""

    @property
    def embeddings(self) -> Embeddings:
        """The textual-inversion embeddings."""

    @property
    def hypernetworks(self) -> Mapping[str, Path]:
        """Hypernetwork files by name."""

    @property
    def queue(self) -> Queue:
        """The queue with every job that is known."""

    def refresh_networks(self) -> None:
        """Look through the folders of embeddings, hypernetworks and LoRAs again: a file was written there."""

    async def generate(self, request: GenerationRequest) -> Result:
        """Plan, queue and await one generation.

        :raises LatentdError: the error that the HTTP API would answer.
        """

    async def submit(self, request: GenerationRequest, *, awaited: bool = True) -> WorkJob[Result]:
        """Plan and queue one generation, which is in the jobs API at once; its warnings are in ``progress``.

        :param awaited: whether the caller calls ``wait()`` at once: the result is then kept until it has.
        :raises LatentdError: every 4xx that planning finds; a full queue; a task id in use.
        """

    async def run_on_worker(self, work: Callable[[JobControl], T], *, kind: str) -> T:
        """Run ``work`` on the thread that uses torch, as a separate job in the queue."""

    def submit_work(
        self,
        work: Callable[[JobControl], T],
        *,
        kind: str,
        task_id: str | None = None,
        checkpoint: str | None = None,
        meta: Mapping[str, JsonValue] | None = None,
    ) -> WorkJob[T]:
        """As :meth:`run_on_worker` without the wait: the job is in the queue, and in the jobs API under its id.

        Where ``work`` returns a dictionary that is JSON-ready, the job's document has it as ``result``.

        :param task_id: the client's own id; None or empty for a new one.
        :param checkpoint: the title of the checkpoint that it needs, to let a job go first whose model is loaded.
        :param meta: shown with the job.
        :raises Conflict: ``task_id`` is waiting or running. :raises QueueFull: the queue is at its bound.
        """

    def worker_context(self, control: JobControl) -> WorkerContext:
        """What upscalers and interrogators take; on the worker."""

    async def run_in_thread(self, work: Callable[[], T]) -> T:
        """The result of ``work``, called outside the event loop; for reading files."""

    def decode_image(self, text: str) -> Awaitable[Image]:
        """The picture for an image string of a request, within the server's limits for URLs and sizes."""

    def decode_image_now(self, text: str) -> Image:
        """As :meth:`decode_image`, on this thread; for a script's ``plan``, which runs outside the event loop."""

    def image_decoder(self) -> Callable[[str], Image]:
        """A function like :meth:`decode_image_now` for all pictures of one request.

        It raises :class:`latentd.errors.TooLarge` when they have more pixels together than ``--max-batch-mp`` allows.
        """

    def encode_image(self, image: Image, info: Mapping[str, str] | None = None) -> Awaitable[str]:
        """Base64 text of the picture in the format of option ``samples_format``."""
