"""Samplers and schedulers described as data. This module imports no torch, since it is used at start-up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

if TYPE_CHECKING:
    from torch import Tensor

FunctionReference: TypeAlias = "str | Callable[..., Tensor]"
EtaOption: TypeAlias = Literal["eta_ancestral", "eta_ddim"]

ETA_ANCESTRAL: Final = "eta_ancestral"
ETA_DDIM: Final = "eta_ddim"


def load_function(reference: FunctionReference) -> Callable[..., Tensor]:
    """The function that ``reference`` names.

    :param reference: a callable, or ``"package.module:function"``, imported now.
    :raises ValueError: a string without a colon.
    :raises AttributeError: the module has no such function.
    :raises ImportError: the module cannot be imported.
    """
    if not isinstance(reference, str):
        return reference
    module, colon, name = reference.partition(":")
    if not colon:
        raise ValueError(f"{reference!r} is not of the form 'module:function'")
    return cast("Callable[..., Tensor]", getattr(import_module(module), name))


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSpec:
    """One sampler under one name.

    ``function`` has the signature ``(denoiser, x, run) -> x`` of :mod:`latentd.sampling.samplers`. For kind ``sigma``
    the denoiser takes noise levels and returns the clean latent; for kind ``timestep`` it takes timesteps and returns
    the noise.
    """

    name: str
    function: FunctionReference
    aliases: tuple[str, ...] = ()
    kind: Literal["sigma", "timestep"] = "sigma"
    scheduler: str | None = None
    """Name of the schedule that belongs to the sampler; ``None`` is the model's own ("uniform")."""
    automatic_scheduler: str | None = None
    """Name of the schedule that a request for "Automatic" gets, as in AUTOMATIC1111 1.9 and later."""
    second_order: bool = False
    discard_next_to_last_sigma: bool = False
    brownian: bool = False
    uses_ensd: bool = False
    eta_option: EtaOption | None = None
    """Option that gives eta its default; ``None`` when the sampler has no eta."""
    uses_churn: bool = False
    uses_s_noise: bool = False
    ignores_schedule: bool = False
    """The sampler uses only the lowest and highest noise level and chooses its own steps."""
    couples_batch: bool = False
    """The pictures of a batch influence one another, so different requests must not share a batch."""
    solver_type: str | None = None
    lcm_schedule: bool = False
    """The model is called with the 50 timesteps of latent consistency models."""
    cfg_scale_factor: float = 1.0
    """The CFG scale is multiplied by this before it is used (CFG++)."""
    needs_uncond_eps: bool = False
    """The sampler reads ``denoiser.last_uncond_eps`` after each call."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Further entries for the ``options`` of ``/sdapi/v1/samplers``."""
    listed: bool = True

    @property
    def uses_eta(self) -> bool:
        """Whether the sampler takes eta."""
        return self.eta_option is not None

    @property
    def default_eta(self) -> float:
        """Default of eta: 1 for ancestral samplers, 0 for DDIM."""
        return 1.0 if self.eta_option == ETA_ANCESTRAL else 0.0

    def api_options(self) -> dict[str, str]:
        """The ``options`` of this sampler in ``/sdapi/v1/samplers``; all values are strings."""
        flags = {
            "discard_next_to_last_sigma": self.discard_next_to_last_sigma,
            "uses_ensd": self.uses_ensd,
            "second_order": self.second_order,
            "brownian_noise": self.brownian,
        }
        reply = {"scheduler": self.scheduler} if self.scheduler else {}
        reply |= {key: "True" for key, value in flags.items() if value}
        if self.solver_type:
            reply["solver_type"] = self.solver_type
        return reply | dict(self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSpec:
    """One way to choose the noise levels of a run.

    ``function`` is called as ``function(request)`` with a :class:`latentd.sampling.schedulers.SigmaRequest` and returns
    a float32 tensor of descending noise levels that ends in zero. ``None`` stands for the sampler's own schedule.
    """

    name: str
    label: str
    function: FunctionReference | None
    aliases: tuple[str, ...] = ()
    default_rho: float = -1.0
    need_inner_model: bool = False
