"""What the server offers to plugins (``Services``) and what a running job shows to hooks (``Generation``): protocols.

The classes behind them live in ``server``, ``engine`` and ``pipeline``; plugins see these names only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
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

    def encode_image(self, image: Image, info: Mapping[str, str] | None = None) -> Awaitable[str]:
        """Base64 text of the picture in the format of option ``samples_format``."""


class Generation(Protocol):
    """One running job as hooks see it."""

    id: str
    plan: Any
    request: GenerationRequest
    options: Mapping[str, Any]
    control: JobControl
    services: Services
    model: Any
    device: Any
    dtype: Any
    batch: int
    pass_name: PassName
    conditioning: Any
    latents: Any
    state: dict[str, Any]
    infotext: dict[str, Any]

    def add_image(self, image: Image, info: Mapping[str, str] | None = None) -> None:
        """Append a picture to the reply, after the generated ones."""
