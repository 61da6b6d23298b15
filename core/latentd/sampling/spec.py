"""What a sampler and a scheduler are, as data. Imports no torch: these values are registered at start-up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, Literal, TypeAlias, cast

FunctionReference: TypeAlias = str | Callable[..., Any]
EtaOption: TypeAlias = Literal["eta_ancestral", "eta_ddim"]

ETA_ANCESTRAL: Final = "eta_ancestral"
ETA_DDIM: Final = "eta_ddim"


def load_function(reference: FunctionReference) -> Callable[..., Any]:
    """Return the function that ``reference`` names.

    :param reference: a callable, or ``"package.module:function"``, imported now.
    :raises ValueError: when a string has no colon.
    :raises AttributeError: when the module has no such function.
    :raises ImportError: when the module cannot be imported.
    """
    if not isinstance(reference, str):
        return reference
    module, colon, name = reference.partition(":")
    if not colon:
        raise ValueError(f"{reference!r} is not of the form 'module:function'")
    return cast("Callable[..., Any]", getattr(import_module(module), name))


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSpec:
    """One sampler as it is offered under one name.

    ``function`` has the signature ``(denoiser, x, run) -> x`` of :mod:`latentd.sampling.samplers`; for kind ``sigma``
    the denoiser takes noise levels and returns the clean latent, for kind ``timestep`` it takes timesteps and returns
    the noise.
    """

    name: str
    function: FunctionReference
    aliases: tuple[str, ...] = ()
    kind: Literal["sigma", "timestep"] = "sigma"
    scheduler: str | None = None
    """Name of the schedule that belongs to the sampler; ``None`` is the model's own ("uniform")."""
    automatic_scheduler: str | None = None
    """Schedule meant by a request that says "Automatic", as AUTOMATIC1111 1.9 and later understand the name."""
    second_order: bool = False
    discard_next_to_last_sigma: bool = False
    brownian: bool = False
    uses_ensd: bool = False
    eta_option: EtaOption | None = None
    """Option that gives eta its default; ``None`` when the sampler has no eta."""
    uses_churn: bool = False
    uses_s_noise: bool = False
    ignores_schedule: bool = False
    """The sampler takes only the range of noise levels and makes its own steps."""
    couples_batch: bool = False
    """Pictures of one batch influence one another, so requests must not be merged into one batch."""
    solver_type: str | None = None
    lcm_schedule: bool = False
    """The model is addressed through the 50-step schedule of latent consistency models."""
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
        """Eta's default where the option is not set: 1 for ancestral samplers, 0 for DDIM."""
        return 1.0 if self.eta_option == ETA_ANCESTRAL else 0.0

    def api_options(self) -> dict[str, str]:
        """Return the ``options`` of this sampler in ``/sdapi/v1/samplers``, all values strings."""
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
    """One schedule of noise levels.

    ``function`` is called as ``function(request)`` with a :class:`latentd.sampling.schedulers.SigmaRequest` and returns
    a float32 tensor of descending noise levels with their final zero. ``None`` means: the sampler's own.
    """

    name: str
    label: str
    function: FunctionReference | None
    aliases: tuple[str, ...] = ()
    default_rho: float = -1.0
    need_inner_model: bool = False
