"""The server's own work on a worker, as functions that can be called in another process as well."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from latentd.engine.runner import collecting_later, freeze_heap
from latentd.models.cores import use_own_cores
from latentd.types import JsonValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from latentd.generations import Plan
    from latentd.pipeline.divided import DrawnPart
    from latentd.pipeline.needs import WorkerServices
    from latentd.pipeline.splitting import Cut
    from latentd.types import JobControl, Result


def import_pipeline() -> None:
    """Import what every generation needs, torch included, and let it use the cores that this process has."""
    with collecting_later():
        use_own_cores()
        import latentd.pipeline.run  # noqa: F401


@cache
def _import_networks() -> None:
    """Import the libraries of the networks before the first model is loaded.

    They add about 300,000 objects, with which every full garbage collection would stop the server for 0.2 s.
    """
    with collecting_later():
        import latentd.models.loading.libraries  # noqa: F401
    freeze_heap()


def draw(services: WorkerServices, control: JobControl, plan: Plan) -> Result:
    """The pictures of ``plan``."""
    from latentd.pipeline.run import execute

    _import_networks()
    return execute(plan, services, control)


def draw_part(services: WorkerServices, control: JobControl, plan: Plan, cuts: Sequence[Cut]) -> DrawnPart:
    """Some pictures of ``plan``, not finished yet."""
    from latentd.pipeline import divided

    _import_networks()
    return divided.draw_part(plan, cuts, services, control)


def join_parts(services: WorkerServices, control: JobControl, plan: Plan, parts: Sequence[DrawnPart]) -> Result:
    """The pictures of ``plan`` from those of its parts."""
    from latentd.pipeline import divided

    return divided.join_parts(plan, parts, services, control)


def load(services: WorkerServices, control: JobControl) -> dict[str, JsonValue]:
    """Load the selected checkpoint and VAE; returns the options whose values are known now: its title and hash."""
    _import_networks()
    with services.models.lease(None, services.options["sd_vae"]):
        current = services.models.current
    return {"sd_model_checkpoint": current.title, "sd_checkpoint_hash": current.sha256}


def unload(services: WorkerServices, control: JobControl) -> bool:
    """Drop the models of the device on which this runs."""
    services.models.unload()
    return True


def caption(services: WorkerServices, control: JobControl, interrogator: str, image: Image) -> str:
    """What the interrogator of this name says of ``image``."""
    from latentd.pipeline.upscaling import caption_with

    spec = services.registry.interrogators.require(interrogator)
    return caption_with(services.registry, spec, image, services.worker_context(control))
