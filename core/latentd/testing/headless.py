"""Services without a server: real options, folders and registries, and no models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from latentd.errors import NotFound
from latentd.model_services import CacheReport
from latentd.models.cache import ModelCache
from latentd.models.devices import DevicePolicy
from latentd.networks.files import NetworkLibrary
from latentd.options import OptionStore
from latentd.plugins.registry import Registries
from latentd.server.styles import StyleBook
from latentd.services import WorkerContext
from latentd.settings import Paths, Settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.job_services import Queue, WorkJob
    from latentd.model_services import Checkpoint, Model, Models, Vae
    from latentd.services import Embeddings, Networks, Styles
    from latentd.types import GenerationRequest, JobControl, JsonValue, Result

T = TypeVar("T")


class NoModels:
    """The models of a server that has none."""

    checkpoints: tuple[Checkpoint, ...] = ()
    vaes: tuple[Vae, ...] = ()
    policy = DevicePolicy()

    def __init__(self) -> None:
        self.cache = ModelCache()

    @property
    def current(self) -> Checkpoint:
        """Raise the error of a server without a checkpoint.

        :raises NotFound: always.
        """
        raise NotFound("No checkpoint was found", hint="put one into models/Stable-diffusion")

    def cache_report(self) -> CacheReport:
        """That nothing is loaded."""
        return self.cache.report()

    def find(self, name: str) -> Checkpoint | None:
        """None."""
        return None

    def named(self, name: str) -> Checkpoint | None:
        """None."""
        return None

    def lease(self, checkpoint: str | None = None, vae: str | None = None) -> AbstractContextManager[Model]:
        """Raise the error of a server without a checkpoint.

        :raises NotFound: always.
        """
        raise NotFound("No checkpoint was found", hint="no models without a server; use the fixture latentd_app")


@dataclass(kw_only=True)
class HeadlessServices:
    """``services`` for plugins without a server; methods that would need a server raise an exception."""

    settings: Settings = field(default_factory=Settings)
    options: OptionStore = field(default_factory=OptionStore)
    registry: Registries = field(default_factory=Registries)
    models: Models = field(default_factory=NoModels)
    serves_http: bool = False

    @property
    def styles(self) -> Styles:
        """The styles files of the data folder."""
        return StyleBook(self.paths.styles_patterns)

    @property
    def networks(self) -> Networks:
        """The networks of the configured folders."""
        return NetworkLibrary(self.paths.models("Lora"))

    @property
    def embeddings(self) -> Embeddings:
        """The embeddings of the configured folders."""
        from latentd.conditioning.embeddings import EmbeddingStore

        return EmbeddingStore(self.paths.models("embeddings"))

    @property
    def hypernetworks(self) -> Mapping[str, Path]:
        """None."""
        return {}

    @property
    def queue(self) -> Queue:
        """:raises RuntimeError: there is no worker."""
        raise RuntimeError("no queue without a server; use the fixture latentd_app")

    def refresh_networks(self) -> None:
        """Nothing: the folders are looked through at every question."""

    @property
    def paths(self) -> Paths:
        """The folders of the settings."""
        return self.settings.paths

    async def generate(self, request: GenerationRequest) -> Result:
        """Raise the error of a server without a checkpoint.

        :raises NotFound: always.
        """
        raise NotFound("No checkpoint was found", hint="no models without a server; use the fixture latentd_app")

    async def submit(self, request: GenerationRequest, *, awaited: bool = True) -> WorkJob[Result]:
        """Raise the error of a server without a checkpoint.

        :raises NotFound: always.
        """
        raise NotFound("No checkpoint was found", hint="no models without a server; use the fixture latentd_app")

    async def run_on_worker(self, work: Callable[[JobControl], T], *, kind: str) -> T:
        """Raise an error, since there is no worker.

        :raises RuntimeError: always.
        """
        raise RuntimeError(f"{kind}: no worker without a server; use the fixture latentd_app")

    def submit_work(
        self,
        work: Callable[[JobControl], T],
        *,
        kind: str,
        task_id: str | None = None,
        checkpoint: str | None = None,
        meta: Mapping[str, JsonValue] | None = None,
    ) -> WorkJob[T]:
        """:raises RuntimeError: there is no worker."""
        raise RuntimeError(f"{kind}: no worker without a server; use the fixture latentd_app")

    def worker_context(self, control: JobControl) -> WorkerContext:
        """What upscalers and interrogators take."""
        return WorkerContext(options=self.options.snapshot(), check=control.check)

    async def run_in_thread(self, work: Callable[[], T]) -> T:
        """The result of ``work``, called outside the event loop."""
        return await asyncio.to_thread(work)

    async def decode_image(self, text: str) -> Image:
        """:raises RuntimeError: there is no server."""
        raise RuntimeError("no images without a server; use the fixture latentd_app")

    def image_decoder(self) -> Callable[[str], Image]:
        """The method :meth:`decode_image_now`."""
        return self.decode_image_now

    def decode_image_now(self, text: str) -> Image:
        """:raises RuntimeError: there is no server."""
        raise RuntimeError("no images without a server; use the fixture latentd_app")

    async def encode_image(self, image: Image, info: Mapping[str, str] | None = None) -> str:
        """:raises RuntimeError: there is no server."""
        raise RuntimeError("no images without a server; use the fixture latentd_app")
