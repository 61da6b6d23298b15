"""The lists of values of some axes of the X/Y/Z plot."""

from __future__ import annotations

from latentd.api import Services
from latentd_scripts.upscaler_choice import upscaler_names

_LATENT_MODES = (
    "Latent", "Latent (antialiased)", "Latent (bicubic)", "Latent (bicubic antialiased)",
    "Latent (nearest)", "Latent (nearest-exact)",
)  # fmt: skip
_SCHEDULES = ("Automatic", "karras", "exponential", "polyexponential")


def samplers(services: Services) -> list[str]:
    """The listed samplers."""
    return [spec.name for spec in services.registry.samplers.values() if spec.listed]


def schedules(services: Services) -> list[str]:
    """The values of option ``k_sched_type``."""
    return list(_SCHEDULES)


def checkpoints(services: Services) -> list[str]:
    """The checkpoints' titles, sorted."""
    return sorted((info.title for info in services.models.checkpoints), key=str.casefold)


def checkpoints_or_none(services: Services) -> list[str]:
    """The checkpoints' titles, sorted, after ``None``."""
    return ["None", *checkpoints(services)]


def vaes(services: Services) -> list[str]:
    """The VAE files, after ``None``."""
    return ["None", *(found.name for found in services.models.vaes)]


def styles(services: Services) -> list[str]:
    """The names of the styles."""
    return list(services.styles.by_name)


def hires_upscalers(services: Services) -> list[str]:
    """Latent modes, resizers and upscalers."""
    return [*_LATENT_MODES, *upscaler_names(services)]
