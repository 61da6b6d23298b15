"""The contract between latentd and its plugins: every hook with its types, its purpose and what happens if it fails.

Registration hooks run once, at start, in the order of the plugins' names; each returns a list. A plugin is registered
with all that it offers, or not at all. Generation hooks run on the worker; an exception in one fails its job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pluggy

from latentd.contributions import HealthSpec, ModelFile, ModelFormatSpec, OptionSpec
from latentd.generations import AnyScript, ExtraNetworkSpec, UNetHook
from latentd.services import (
    DetectorSpec,
    FaceRestorerSpec,
    InterrogatorSpec,
    PostprocessorSpec,
    PreprocessorSpec,
    UpscalerSpec,
)
from latentd.types import JsonValue, Result

if TYPE_CHECKING:
    from fastapi import APIRouter, Request
    from PIL.Image import Image
    from torch import Tensor

    from latentd.executors import Executor
    from latentd.generations import Generation
    from latentd.sampling.spec import SamplerSpec, SchedulerSpec
    from latentd.services import Services
    from latentd.settings import Settings

PROJECT = "latentd"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


# --- registration ----------------------------------------------------------------------------------------------------


@hookspec
def register_options() -> list[OptionSpec]:
    """Keys for the option store; they appear in ``GET /sdapi/v1/options`` and are kept in config.json."""


@hookspec
def register_routes(services: Services) -> list[APIRouter]:
    """FastAPI routers. They need authentication unless a route has ``openapi_extra={"x-public": True}``.

    With ``{"x-ticket": True}``, a GET for an event stream also accepts a ticket of ``POST /latentd/v1/tickets``. A path
    that is taken is refused, except ``/``: a page there replaces the server's own.

    :param services: the server's services; keep the object and use it inside the routes.
    """


@hookspec
def register_samplers() -> list[SamplerSpec]:
    """Samplers, listed after the core's in ``/sdapi/v1/samplers``."""


@hookspec
def register_schedulers() -> list[SchedulerSpec]:
    """Noise schedules, listed after the core's in ``/sdapi/v1/schedulers``."""


@hookspec
def register_upscalers(services: Services) -> list[UpscalerSpec]:
    """Image upscalers. Called again when the upscaler folders are refreshed, so scan the folders here."""


@hookspec
def register_face_restorers(services: Services) -> list[FaceRestorerSpec]:
    """Face restorers, for ``restore_faces`` and the extras endpoints."""


@hookspec
def register_detectors(services: Services) -> list[DetectorSpec]:
    """Detectors of faces and other things, by the name that requests give (``ad_model`` of ``latentd-detailer``)."""


@hookspec
def register_interrogators(services: Services) -> list[InterrogatorSpec]:
    """Interrogators, by the name that clients send as ``model``."""


@hookspec
def register_preprocessors(services: Services) -> list[PreprocessorSpec]:
    """ControlNet preprocessors (used when ``latentd-controlnet`` is installed)."""


@hookspec
def register_scripts() -> list[AnyScript]:
    """Scripts, selectable and always-on."""


@hookspec
def register_postprocessors() -> list[PostprocessorSpec]:
    """Steps of the extras endpoints, run in ascending ``order``."""


@hookspec
def register_extra_networks() -> list[ExtraNetworkSpec]:
    """Handlers of prompt tags such as ``<lora:name:1>``."""


@hookspec
def register_checkpoints() -> list[ModelFile]:
    """Weight files that are part of this package."""


@hookspec
def register_model_formats() -> list[ModelFormatSpec]:
    """Loaders for checkpoint formats beyond the core's."""


@hookspec
def register_health(services: Services) -> list[HealthSpec]:
    """Checks for ``/readyz``."""


# --- process ---------------------------------------------------------------------------------------------------------


@hookspec
def startup(services: Services) -> None:
    """Called before the server accepts requests. An exception withdraws the plugin; its routes then answer 503."""


@hookspec
def shutdown(services: Services) -> None:
    """Called after the server has stopped accepting requests and its jobs have ended."""


@hookspec(firstresult=True)
def authenticate(request: Request) -> str | None:
    """The user's name if this plugin authenticates the request, else None; the first name counts."""


@hookspec(firstresult=True)
def error_reply(path: str, status: int, document: JsonValue) -> tuple[int, JsonValue] | None:
    """Another status and JSON body for an error below a plugin's own paths, else None; the first one counts.

    It is asked for every JSON reply of a status from 400 on, whoever made it: routes, authentication, bounds, routing.
    An exception in it is logged, and the reply stays as it was.

    :param path: the request's path without the prefix of ``--subpath``.
    :param document: the body, in AUTOMATIC1111's form: ``error``, ``detail``, perhaps ``hint``; or ``detail`` alone.
    """


@hookspec(firstresult=True)
def create_executor(settings: Settings) -> Executor | None:
    """An executor that replaces the core's (a distributed engine, for example), else None; the first one counts.

    :class:`latentd.api.QueueExecutor` is the core's own, for plugins that only bring other places to run in:
    :class:`latentd.api.Runner`, or :class:`latentd.api.FarRunner` for those in other processes.
    :func:`latentd.testing.check_executor` holds an executor to its contract.
    """


# --- one generation, on the worker -----------------------------------------------------------------------------------


@hookspec
def before_process(generation: Generation) -> None:
    """Called when the models are loaded and nothing is computed yet."""


@hookspec
def modify_conditioning(generation: Generation) -> None:
    """Called when ``generation.conditioning`` of the next batch is complete; it may be changed."""


@hookspec
def unet_hooks(generation: Generation) -> Sequence[UNetHook]:
    """Objects that take part in every UNet evaluation of this job."""


@hookspec
def before_batch(generation: Generation) -> None:
    """Called before a batch is sampled; ``generation.batch`` is its number."""


@hookspec
def after_batch(generation: Generation) -> None:
    """Called when the batch's pictures are decoded and not yet finished."""


@hookspec
def before_step(generation: Generation) -> None:
    """Called before a sampling step."""


@hookspec
def after_step(generation: Generation) -> None:
    """Called after a sampling step; ``generation.latents`` is the state after it."""


@hookspec
def modify_guidance(generation: Generation, x0: Tensor, cond: Tensor, uncond: Tensor | None) -> Tensor | None:
    """A guided prediction [B,C,h,w] that replaces ``x0``, or None. Each plugin gets the result of the one before.

    All tensors are predictions of the clean latent with one row for each picture; ``uncond`` is None if the negative
    prompt was left out.
    """


@hookspec
def after_sample(generation: Generation, latents: Tensor) -> Tensor | None:
    """Latents [B,C,h,w] that replace the sampled ones, or None."""


@hookspec
def postprocess_image(generation: Generation, image: Image, index: int) -> Image | None:
    """A picture that replaces number ``index`` of the batch, or None; called before saving."""


@hookspec
def before_save(generation: Generation, image: Image, index: int, path: str) -> None:
    """Called before a picture is written to ``path``."""


@hookspec
def infotext(generation: Generation, index: int) -> Mapping[str, JsonValue] | None:
    """Further ``key: value`` pairs for this picture's infotext."""


@hookspec
def after_process(generation: Generation, result: Result) -> None:
    """Called when the job is done and its result is complete."""


# --- observers: may fail quietly -------------------------------------------------------------------------------------


@hookspec
def job_event(job_id: str, event: str, data: Mapping[str, JsonValue]) -> None:
    """Called when a job has changed: queued, started, progress, completed, failed, cancelled."""


@hookspec
def request_begun(request: Request) -> None:
    """Called when a request has come in, before authentication, on the event loop: do nothing slow.

    A context variable that is set here has its value during the whole request: in the routes, in ``job_event`` where
    the request queues a job (``queued``), and in ``request_done``.

    :param request: its method, path and headers; the body must not be read here.
    """


@hookspec
def request_done(method: str, route: str, status: int, seconds: float) -> None:
    """Called when a reply has been sent, on the event loop: do nothing slow.

    :param route: the route's path with its parameters' names (``/latentd/v1/jobs/{job_id}``), or "" if there is none.
    :param seconds: from the request's arrival to the reply's end.
    """


@hookspec
def model_event(name: str, event: str) -> None:
    """Called when a model has been loaded, moved or dropped."""
