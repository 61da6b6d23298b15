"""Services without a server: real options, folders and registries, and no models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from latentd.errors import NotFound
from latentd.options import OptionStore
from latentd.plugins.registry import Registries
from latentd.settings import Paths, Settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.types import GenerationRequest, JobControl, Result

T = TypeVar("T")


class NoModels:
    """A model owner that has found no checkpoint."""

    @property
    def current(self) -> Any:
        """:raises NotFound: always, as a server without a checkpoint does."""
        raise NotFound("No checkpoint was found", hint="put one into models/Stable-diffusion")

    def lease(self, checkpoint: str | None = None, vae: str | None = None) -> Any:
        """:raises NotFound: always."""
        return self.current


@dataclass(kw_only=True)
class HeadlessServices:
    """What a plugin gets as ``services`` where no server runs; every call that would need one raises."""

    settings: Settings = field(default_factory=Settings)
    options: OptionStore = field(default_factory=OptionStore)
    registry: Registries = field(default_factory=Registries)
    models: Any = field(default_factory=NoModels)

    @property
    def paths(self) -> Paths:
        """The folders of the settings."""
        return self.settings.paths

    async def generate(self, request: GenerationRequest) -> Result:
        """:raises NotFound: there is no checkpoint."""
        raise NotFound("No checkpoint was found", hint="no models without a server; use the fixture latentd_app")

    async def run_on_worker(self, work: Callable[[JobControl], T], *, kind: str) -> T:
        """:raises RuntimeError: there is no worker."""
        raise RuntimeError(f"{kind}: no worker without a server; use the fixture latentd_app")

    async def decode_image(self, text: str) -> Image:
        """:raises RuntimeError: there is no server."""
        raise RuntimeError("no images without a server; use the fixture latentd_app")

    def image_decoder(self) -> Callable[[str], Image]:
        """Gives :meth:`decode_image_now`."""
        return self.decode_image_now

    def decode_image_now(self, text: str) -> Image:
        """:raises RuntimeError: there is no server."""
        raise RuntimeError("no images without a server; use the fixture latentd_app")

    async def encode_image(self, image: Image, info: Mapping[str, str] | None = None) -> str:
        """:raises RuntimeError: there is no server."""
        raise RuntimeError("no images without a server; use the fixture latentd_app")
