"""A loaded checkpoint: its modules, and the facts about them that the pipeline needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from latentd.models.architecture import Family, PredictionType, Variant
from latentd.models.devices import DevicePolicy
from latentd.models.layout import lay_out
from latentd.models.modules.fp8 import copies_nbytes
from latentd.models.modules.text_encoder import TextEncoder
from latentd.models.modules.unet import UNetRunner
from latentd.models.precision import PARTS, Part
from latentd.models.untyped import DiffusersUNet, DiffusersVae
from latentd.sampling.schedule import NoiseSchedule

if TYPE_CHECKING:
    from latentd.models.files.checkpoints import CheckpointInfo
    from latentd.models.files.vae_files import VaeInfo


@dataclass(slots=True, kw_only=True, weakref_slot=True, eq=False)
class LoadedModel:
    """One loaded checkpoint, used on the worker only.

    ``vae`` is the VAE in use, ``vae_info`` its file, or None for the checkpoint's own; ``own_vae`` is the checkpoint's
    own, or None if the file has none. ``zero_terminal_snr``: whether the model was trained with a schedule that ends in
    pure noise. ``fp8``: whether the weights are kept in eight bits. ``parked``: whether all of it waits in main memory.
    In ``networks`` and ``conditioning`` the layers of these names keep what belongs to this model; ``bundled`` has the
    embeddings inside its networks by name (:mod:`latentd.pipeline.passes.bundled_embeddings`), and ``preview_maps`` the
    weights [4,3] and bias [3] from latents to colours by VAE (:mod:`latentd.pipeline.passes.previews`).
    ``module_names`` maps LDM's names of UNet modules to those of diffusers.
    """

    info: CheckpointInfo
    family: Family
    variant: Variant
    unet: DiffusersUNet
    vae: DiffusersVae | None
    own_vae: DiffusersVae | None
    text_encoders: tuple[TextEncoder, ...]
    prediction_type: PredictionType
    scale_factor: float
    linear_start: float
    linear_end: float
    steps: int
    policy: DevicePolicy
    unet_runner: UNetRunner
    module_names: dict[str, str]
    vae_info: VaeInfo | None = None
    zero_terminal_snr: bool = False
    fp8: bool = False
    parked: bool = False
    networks: object = None
    conditioning: object = None
    bundled: Mapping[str, object] = field(default_factory=dict)
    preview_maps: WeakKeyDictionary[DiffusersVae, tuple[Tensor, Tensor]] = field(default_factory=WeakKeyDictionary)

    @property
    def device(self) -> torch.device:
        """The device on which the UNet computes and the latents are."""
        return self.policy.device_of("unet")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the UNet's weights."""
        return self.policy.dtype_of("unet")

    def lay_out(self, module: nn.Module) -> None:
        """Let ``module``, which computes beside the UNet, compute as the UNet does: its layout, its convolutions."""
        lay_out(module, self.policy, "unet")

    def precision_notes(self) -> dict[str, str]:
        """Infotext entries on what a CPU did not compute in float32, as pictures then differ from those of others."""
        if self.policy.device != "cpu":
            return {}
        named: tuple[tuple[str, Part], ...] = (("Precision", "unet"), ("VAE precision", "vae"))
        found = {name: self.policy.precision_of(part).dtype for name, part in named}
        return {name: dtype for name, dtype in found.items() if dtype != "float32"}

    @property
    def is_sdxl(self) -> bool:
        """Whether conditioning has SDXL's vector."""
        return self.family in ("sdxl", "sdxl-refiner")

    @property
    def latent_channels(self) -> int:
        """Channels of a latent: 4."""
        return 4

    @property
    def context_width(self) -> int:
        """Width of the text conditioning [B,n,width]."""
        return int(self.unet.config.cross_attention_dim)

    @property
    def unet_in_channels(self) -> int:
        """Input channels of the UNet: 4; 9 for inpainting and 8 for instruct-pix2pix models."""
        return int(self.unet.config.in_channels)

    def alphas_cumprod(self) -> Tensor:
        """ᾱ [steps] of the schedule that the model was trained on, float32 on the CPU (rules: a1111-schedule)."""
        schedule = NoiseSchedule.scaled_linear(self.linear_start, self.linear_end, self.steps)
        return (schedule.zero_terminal_snr() if self.zero_terminal_snr else schedule).alphas_cumprod

    def nbytes(self) -> int:
        """Bytes of all weights, each counted once, and of their copies."""
        tensors = {id(p): p for module in self._modules() for p in module.parameters()}
        copies = sum(copies_nbytes(module) for module in self._modules())
        return sum(p.numel() * p.element_size() for p in tensors.values()) + copies

    @contextmanager
    def part(self, part: Part) -> Iterator[None]:
        """A context manager for the module(s) of ``part``, on the device on which they compute.

        With offload ``parts`` the other parts are moved to main memory first.
        """
        if self.policy.offload == "parts":
            for other in PARTS:
                if other != part:
                    self._move(other, torch.device("cpu"))
            self._move(part, self.policy.device_of(part))
        yield

    def to(self, device: torch.device | str | None) -> None:
        """Move every part to ``device``, or, for None, to the device on which it computes."""
        for part in PARTS:
            self.place(part, device)

    def place(self, part: Part, device: torch.device | str | None = None) -> None:
        """Move ``part`` to ``device``; None sends it to where it computes."""
        self._move(part, self.policy.device_of(part) if device is None else torch.device(device))

    def _move(self, part: Part, device: torch.device) -> None:
        modules = {"unet": [self.unet], "text": list(self.text_encoders), "vae": [self.vae, self.own_vae]}[part]
        # Moved weights stay ordinary tensors, which a training needs, though a generation in inference mode moves them.
        with torch.inference_mode(False), torch.no_grad():
            for module in modules:
                if module is not None:
                    module.to(device)

    def _modules(self) -> list[nn.Module]:
        return [m for m in (self.unet, self.vae, self.own_vae, *self.text_encoders) if m is not None]
