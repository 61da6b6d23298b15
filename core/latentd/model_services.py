"""What plugins see of models: checkpoints and VAEs as listed, the loaded model, its cache and its owner.

These are protocols, which can be imported without torch. The classes that implement them are in ``models``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    import torch

    from latentd.types import AttentionSite

T = TypeVar("T")


class Checkpoint(Protocol):
    """A checkpoint file as listed by ``/sdapi/v1/sd-models``."""

    @property
    def title(self) -> str:
        """The name with its hash; clients select the checkpoint by it."""

    @property
    def name(self) -> str:
        """The file's path within its folder, with its extension."""

    @property
    def model_name(self) -> str:
        """The name without extension, folders joined by ``_``."""

    @property
    def filename(self) -> str:
        """The file's absolute path."""

    @property
    def hash(self) -> str | None:
        """The first ten digits of :attr:`sha256`."""

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the file in hexadecimal; None until the file has been hashed."""

    @property
    def config(self) -> str | None:
        """Path of the ``.yaml`` beside the file."""


class Vae(Protocol):
    """A VAE file as listed by ``/sdapi/v1/sd-vae``."""

    @property
    def name(self) -> str:
        """The file's name, which is the value of option ``sd_vae``."""

    @property
    def filename(self) -> str:
        """The file's absolute path."""

    @property
    def hash(self) -> str | None:
        """The first ten digits of the SHA-256, known once the file is loaded."""


class UNetLayout(Protocol):
    """The blocks and attentions of a loaded UNet; see :class:`latentd.types.BlockSite`."""

    @property
    def inputs(self) -> Sequence[object]:
        """The blocks of the encoder."""

    @property
    def outputs(self) -> Sequence[object]:
        """The blocks of the decoder."""

    @property
    def attention_sites(self) -> Sequence[AttentionSite]:
        """Every attention in the order of execution."""


class Model(Protocol):
    """A loaded checkpoint; on the worker only."""

    @property
    def info(self) -> Checkpoint:
        """The file that it was loaded from."""

    @property
    def family(self) -> str:
        """``sd1``, ``sd2``, ``sdxl`` or ``sdxl-refiner``."""

    @property
    def is_sdxl(self) -> bool:
        """Whether conditioning has SDXL's vector."""

    @property
    def device(self) -> torch.device:
        """The device on which the UNet computes and the latents are."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the UNet's weights."""

    @property
    def latent_channels(self) -> int:
        """Channels of a latent: 4."""

    @property
    def unet_in_channels(self) -> int:
        """Input channels of the UNet: 4; 9 for inpainting and 8 for instruct-pix2pix models."""

    @property
    def context_width(self) -> int:
        """Width of the text conditioning [B,n,width]."""

    @property
    def unet_runner(self) -> UNetLayout:
        """The blocks and attentions of the UNet, for hooks."""

    @property
    def unet(self) -> Any:  # diffusers' UNet2DConditionModel; the package has no types
        """The UNet's module, to be read and never written."""

    @property
    def module_names(self) -> Mapping[str, str]:
        """LDM's names of the UNet's modules → diffusers'."""

    @property
    def prediction_type(self) -> str:
        """``eps`` or ``v``."""

    def lay_out(self, module: torch.nn.Module) -> None:
        """Let ``module``, which computes beside the UNet, compute as the UNet does.

        Its weights get the UNet's memory layout, and its convolutions the UNet's algorithm.
        """

    def part(self, part: Literal["unet", "text", "vae"]) -> AbstractContextManager[None]:
        """Within it the module(s) of ``part`` are on the device where they compute; other parts may leave it."""

    def alphas_cumprod(self) -> torch.Tensor:
        """ᾱ [steps] of the schedule that the model was trained on, float32 on the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheReport:
    """What caches of models hold, and how they have been used.

    :ivar hits: how often a model that was asked for was loaded already.
    :ivar loads: how often it had to be loaded.
    :ivar usage: by kind, how many models are loaded, and their bytes.
    """

    hits: int = 0
    loads: int = 0
    usage: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __add__(self, other: CacheReport) -> CacheReport:
        usage = dict(self.usage)
        for kind, (count, nbytes) in other.usage.items():
            before = usage.get(kind, (0, 0))
            usage[kind] = (before[0] + count, before[1] + nbytes)
        return CacheReport(hits=self.hits + other.hits, loads=self.loads + other.loads, usage=usage)


class Cache(Protocol):
    """All loaded models by kind and key; if room is needed, the least recently used is dropped first.

    A key is a tuple whose first item is the kind: ``("upscaler", path, stamp)``.
    """

    def lease(
        self, key: tuple[Hashable, ...], load: Callable[[], T], size: int | Callable[[T], int]
    ) -> AbstractContextManager[T]:
        """A context manager for the model under ``key``, which is loaded if needed and kept until the block is left.

        :param size: its bytes, or a function that returns them for the loaded model.
        """

    def get(self, key: tuple[Hashable, ...], load: Callable[[], T], size: int | Callable[[T], int] = 0) -> T:
        """The model under ``key``; unlike a leased model, it may be dropped from the cache while it is used."""

    def limit(self, kind: str, count: int) -> None:
        """Keep at most ``count`` (at least one) models of ``kind`` from now on."""

    def drop(self, kind: str) -> int:
        """Drop the models of ``kind``, except leased ones; returns how many were dropped."""

    def report(self) -> CacheReport:
        """What it holds, and how it has been used."""

    def loaded(self, kind: str) -> Sequence[Any]:  # whatever each kind's ``load`` gave
        """The loaded models of ``kind``, the most recently used last."""


class Policy(Protocol):
    """The device and the precision of models."""

    @property
    def device(self) -> str:
        """The device as torch spells it: ``cpu``, ``cuda:0``."""

    @property
    def dtype(self) -> str:
        """The dtype as torch spells it: ``float16``."""


class Models(Protocol):
    """The server's models."""

    @property
    def current(self) -> Checkpoint:
        """The selected checkpoint.

        :raises NotFound: no checkpoint was found at all.
        """

    @property
    def checkpoints(self) -> Iterable[Checkpoint]:
        """Every checkpoint, in the order of ``/sdapi/v1/sd-models``."""

    @property
    def vaes(self) -> Iterable[Vae]:
        """Every VAE file, in the order of ``/sdapi/v1/sd-vae``."""

    @property
    def cache(self) -> Cache:
        """The loaded models of the device on which this thread works."""

    def cache_report(self) -> CacheReport:
        """Of all devices together; of worker processes and actors as they were after their last jobs."""

    @property
    def policy(self) -> Policy:
        """Devices and precision, which are decided, by importing torch, when they are first read."""

    def find(self, name: str) -> Checkpoint | None:
        """The checkpoint with this name, else the one with the shortest title that contains it, else None."""

    def named(self, name: str) -> Checkpoint | None:
        """The checkpoint with this name, or the only one whose name differs in spelling, else None."""

    def lease(self, checkpoint: str | None = None, vae: str | None = None) -> AbstractContextManager[Model]:
        """A context manager for the loaded model, which is not dropped until the block is left; on the worker only.

        :param checkpoint: a name; None for the selected one.
        :param vae: a value of option ``sd_vae``.
        :raises NotFound: there is none of that name.
        :raises ModelLoadError: the file cannot be loaded.
        """
