"""The face detailer for latentd, under ADetailer's names. Nothing that takes time to import is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.api import AnyScript, OptionSpec, Services, hookimpl

if TYPE_CHECKING:
    from latentd.api import APIRouter

__all__ = ["register_options", "register_routes", "register_scripts", "startup"]


@hookimpl
def register_scripts() -> list[AnyScript]:
    """The script ``ADetailer``."""
    from latentd_detailer.script import Detailer

    return [Detailer()]


@hookimpl
def register_options() -> list[OptionSpec]:
    """The original's options that act."""
    from latentd_detailer.options import OPTIONS

    return OPTIONS


@hookimpl
def register_routes(services: Services) -> list[APIRouter]:
    """``/adetailer/v1/...``."""
    from latentd_detailer.routes import router

    return [router(services)]


@hookimpl
def startup(services: Services) -> None:
    """Give the script the options that its row in ``/script-info`` depends on."""
    from latentd_detailer.script import Detailer

    for script in services.registry.scripts.values():
        if isinstance(script, Detailer):
            script.services = services
