"""What the server offers to plugins (``Services``) and what a running job shows to hooks (``Generation``): protocols.

The classes behind them live in ``server``, ``engine`` and ``pipeline``; plugins see these names only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from contextlib import ExitStack

    from PIL.Image import Image

    from latentd.types import GenerationRequest, JobControl, PassName, Result

T = TypeVar("T")


class CheckpointInfo(Protocol):
    """A checkpoint file as listed by ``/sdapi/v1/sd-models``."""

    title: str
    model_name: str
    filename: str
    hash: str | None
    sha256: str | None
    config: str | None


class Models(Protocol):
    """The owner of models."""

    @property
    def current(self) -> CheckpointInfo:
        """The selected checkpoint.

        :raises NotFound: no checkpoint was found at all.
        """

    @property
    def cache(self) -> Any:
        """What is loaded (:class:`latentd.models.cache.ModelCache`): ``lease(key, load, size)``, ``limit(kind, n)``."""

    @property
    def policy(self) -> Any:
        """Devices and precision (:class:`latentd.models.devices.DevicePolicy`)."""

    def find(self, name: str) -> CheckpointInfo | None:
        """The checkpoint that ``name`` means, or None."""

    def lease(self, checkpoint: str | None = None, vae: str | None = None) -> Any:
        """A context manager that gives the loaded model and keeps it from being dropped; on the worker only."""


class Options(Protocol):
    """The option store; a mapping of effective values."""

    def __getitem__(self, key: str) -> Any: ...

    def snapshot(self, overrides: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Effective values with validated ``overrides`` on top; what a plan carries."""


class Paths(Protocol):
    """Configured folders, absolute."""

    @property
    def data(self) -> Path:
        """The data folder, from which relative paths are taken."""

    def models(self, kind: str) -> list[Path]:
        """Folders of one kind (``Stable-diffusion``, ``Lora``, ``ESRGAN``, ``ControlNet``...), first found wins."""


class Services(Protocol):
    """What a plugin may use."""

    @property
    def settings(self) -> Any:
        """The process's flags (:class:`latentd.settings.Settings`)."""

    @property
    def options(self) -> Options:
        """The option store."""

    @property
    def models(self) -> Models:
        """The owner of models."""

    @property
    def paths(self) -> Paths:
        """The configured folders."""

    @property
    def registry(self) -> Any:
        """What plugins offer, by kind and name (:class:`latentd.plugins.registry.Registries`)."""

    async def generate(self, request: GenerationRequest) -> Result:
        """Plan, queue and await one generation.

        :raises LatentdError: as the HTTP API would answer.
        """

    async def run_on_worker(self, work: Callable[[JobControl], T], *, kind: str) -> T:
        """Run ``work`` on the thread that owns torch, as a job of its own in the queue."""

    def decode_image(self, text: str) -> Awaitable[Image]:
        """The picture behind a request's image string, under the guards for URLs and sizes."""

    def decode_image_now(self, text: str) -> Image:
        """As :meth:`decode_image`, on this thread; for a script's ``plan``, which runs off the event loop."""

    def image_decoder(self) -> Callable[[str], Image]:
        """As :meth:`decode_image_now`, for the pictures of one request: it refuses the one with which they have more
        pixels together than ``--max-batch-mp`` allows.
        """

    def encode_image(self, image: Image, info: Mapping[str, str] | None = None) -> Awaitable[str]:
        """Base64 text of the picture in the format of option ``samples_format``."""


class Generation(Protocol):
    """One running job as hooks see it. ``conditioning`` and ``latents`` may be replaced."""

    conditioning: Any
    latents: Any

    @property
    def id(self) -> str:
        """The job's id."""

    @property
    def plan(self) -> Any:
        """The :class:`latentd.pipeline.plan.Plan`."""

    @property
    def request(self) -> GenerationRequest:
        """What the caller asked for."""

    @property
    def options(self) -> Mapping[str, Any]:
        """The snapshot of the options, with the request's overrides on top."""

    @property
    def control(self) -> JobControl:
        """Progress, and whether to stop."""

    @property
    def services(self) -> Any:
        """The server's :class:`Services`."""

    @property
    def model(self) -> Any:
        """The loaded model in use; the refiner after its switch."""

    @property
    def device(self) -> Any:
        """Where the UNet computes."""

    @property
    def dtype(self) -> Any:
        """The dtype of the UNet's weights."""

    @property
    def batch(self) -> int:
        """Number of the iteration, from 0."""

    @property
    def pass_name(self) -> PassName:
        """``base`` or ``hires``."""

    @property
    def state(self) -> dict[str, Any]:
        """For what a plugin keeps during the job; use your plugin's name as the key."""

    @property
    def infotext(self) -> dict[str, Any]:
        """Entries for every picture's infotext, in order of insertion."""

    @property
    def leases(self) -> ExitStack:
        """Closed when the job ends, however it does: enter what must be given back (leases of models)."""

    def warn(self, message: str) -> None:
        """Tell the caller that something asked for does not act as asked; see :meth:`latentd.types.JobControl.warn`."""

    def add_image(self, image: Image, info: Mapping[str, str] | None = None) -> None:
        """Append a picture to the reply, after the generated ones."""
