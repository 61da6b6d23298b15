"""The parts of one server, and the services for plugins and routes. Imports neither FastAPI nor torch."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from latentd.errors import LatentdError, NotConfigured, NotStored
from latentd.executors import Executor, ExecutorJob, Home, NeededFile, PortableWork
from latentd.models.files.folders import find_models
from latentd.models.files.hashes import HashCache
from latentd.models.files.unpickle import pickle_files
from latentd.networks.files import NetworkLibrary
from latentd.options import OptionStore
from latentd.pipeline.planning.needed_files import files_of_plan, files_of_selection
from latentd.plugins.builtin import BUILTINS
from latentd.plugins.host import PluginHost
from latentd.plugins.selection import Selection
from latentd.server import work
from latentd.server.engine_setup import MEBIBYTE, create_engine
from latentd.server.images import ImageIO
from latentd.server.model_setup import create_models
from latentd.server.shared_batches import share_of
from latentd.server.split_batches import division_of
from latentd.server.styles import StyleBook
from latentd.server.tickets import Tickets
from latentd.services import Services, WorkerContext
from latentd.settings import Settings
from latentd.types import JsonValue, OptionValues

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.conditioning.embeddings import EmbeddingStore
    from latentd.generations import Plan
    from latentd.server.schemas.generation import GenerationBody
    from latentd.types import GenerationRequest, JobControl, Result

log = logging.getLogger(__name__)

T = TypeVar("T")
ROUTES = "latentd.server.builtin"
#: Options whose change loads a model; the reply waits for it.
_LOADING = frozenset(
    {
        "sd_model_checkpoint",
        "sd_vae",
        "sd_vae_overrides_per_model_preferences",
        "fp8_storage",
        "cache_fp16_weight",
    }
)


class AppServices:
    """Implements :class:`latentd.services.Services`.

    :param extra_plugins: names and plugins that are not installed distributions (for tests and embedding).
    :param serve_http: include the HTTP routes; False for the command line.
    :param executor: takes the place of the executors of plugins and of the core.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        extra_plugins: Iterable[tuple[str, object]] = (),
        serve_http: bool = True,
        executor: Executor | None = None,
    ) -> None:
        began = time.perf_counter()
        self.settings = settings
        self.serves_http = serve_http
        self.paths = settings.paths
        self.app_id = secrets.randbelow(2**53)
        self.options = OptionStore.from_settings(settings)
        builtins = (*BUILTINS, ROUTES) if serve_http else BUILTINS
        extra = list(extra_plugins)
        self.host = PluginHost(self.options, Selection.from_settings(settings), extra=extra, builtins=builtins)
        self.host.load()
        self.registry, self.hooks = self.host.registry, self.host.hooks
        self.tickets = Tickets()
        self.images = ImageIO(settings, self.options)
        self.styles = StyleBook(self.paths.styles_patterns)
        loaded = time.perf_counter()
        self.hashes = HashCache(self.paths.data / "cache", enabled=not settings.no_hashing)
        pickle_files.keep_in(self.paths.data / "cache" / "converted", int(settings.converted_cache_mb * MEBIBYTE))
        self.models = create_models(settings, self.options, self.registry, self.hashes, observer=self.hooks.model_event)
        self.networks = NetworkLibrary(
            self.paths.models("Lora"),
            carried=self._carried("lora"),
            hidden=lambda: self.options["list_hidden_files"],
        )
        scanned = time.perf_counter()
        self.scans = 0
        self.engine: Executor = (
            executor
            or self.hooks.create_executor(settings)
            or create_engine(settings, self.options, self.models, lambda: _modules(extra))
        )
        self.engine.observe(self.hooks.job_event)
        self.host.attach(self)
        self.startup_seconds = {
            "plugins": loaded - began,
            "model files": scanned - loaded,
            "routes": time.perf_counter() - scanned,
        }
        self.on_exit: Callable[[str], bool] = lambda kind: False
        self._warm = self._started = False

    @cached_property
    def _home(self) -> Home:
        """What work that runs elsewhere follows of this server."""
        return Home(
            options=lambda: self.options,
            scans=lambda: self.scans,
            learn=self.models.checkpoints.learn,
            on_model=self.hooks.model_event,
            on_precision=self.models.elsewhere.__setitem__,
            on_cache=self.models.far_caches.note,
        )

    @property
    def queue(self) -> Executor:
        """The engine, as plugins see it."""
        return self.engine

    # --- generations -------------------------------------------------------------------------------------------------

    async def generate(self, request: GenerationRequest) -> Result:
        """Plan, queue and await one generation.

        :raises LatentdError: the error that the HTTP API would answer.
        """
        job = await self.submit(request)
        return await job.wait()

    async def submit(self, request: GenerationRequest, *, awaited: bool = True) -> ExecutorJob[Result]:
        """The queued job of ``request``.

        :param awaited: whether the caller will ``wait()`` for it, as of :meth:`latentd.engine.executor.Engine.submit`.
        :raises LatentdError: every 4xx that planning finds; a full queue; a task id in use.
        """
        from latentd.pipeline.planning.build import build_plan

        plan = await asyncio.to_thread(build_plan, request, self)
        drawing = self.portable(
            work.draw,
            plan,
            first=partial(self._keep_overrides, plan),
            files=lambda: files_of_plan(plan, self, self.hashes.sha256),
        )
        job = self.engine.submit(
            replace(drawing, division=division_of(plan, self, drawing)),
            kind=request.mode,
            task_id=request.force_task_id,
            model_key=self._model_key(plan.checkpoint),
            share=share_of(plan, self),
            awaited=awaited,
            meta={"width": plan.width, "height": plan.height, "steps": plan.steps, "images": len(plan.prompts)},
        )
        for message in plan.warnings:
            job.warn(message)
        return job

    async def submit_body(
        self, given: GenerationBody, warnings: Sequence[str] = (), *, awaited: bool = True
    ) -> tuple[ExecutorJob[Result], GenerationBody]:
        """The queued job of an HTTP body, and the body with its infotext applied.

        :param warnings: what reading the body could not follow. :param awaited: as of :meth:`submit`.
        :raises LatentdError: as :meth:`submit`.
        """
        from latentd.server.convert import with_pictures

        body, request, unheeded = await asyncio.to_thread(self._read_body, given)
        request = await with_pictures(request, body, self.images)
        request = replace(request, warnings=(*request.warnings, *warnings, *unheeded))
        return await self.submit(request, awaited=awaited), body

    def _read_body(self, given: GenerationBody) -> tuple[GenerationBody, GenerationRequest, list[str]]:
        """The body with its infotext applied, its request without pictures, and warnings."""
        from latentd.pipeline.planning.limits import check_infotext, check_request
        from latentd.server.convert import to_request
        from latentd.server.infotext_request import with_infotext

        check_infotext(given.infotext or "", self.settings)
        body, unheeded = with_infotext(given, self)
        request = to_request(body)
        check_request(request, self.settings)
        return body, request, unheeded

    def _keep_overrides(self, plan: Plan, control: JobControl) -> None:
        """Set the request's overrides for good if it asks for that."""
        if plan.request.override_settings_restore_afterwards:
            return
        try:
            self.options.update(self._known_overrides(plan))
        except NotStored as error:
            control.warn(error.detail)

    def _known_overrides(self, plan: Plan) -> dict[str, JsonValue]:
        overrides = dict(plan.options.overrides)
        if "sd_model_checkpoint" in overrides:
            overrides["sd_model_checkpoint"] = plan.checkpoint
        return overrides

    # --- the workers -------------------------------------------------------------------------------------------------

    def portable(
        self,
        function: Callable[..., T],
        *arguments: object,
        first: Callable[[JobControl], None] | None = None,
        last: Callable[[T], None] | None = None,
        files: Callable[[], Sequence[NeededFile]] = tuple,
    ) -> PortableWork[T]:
        """Work that may be done in another process: ``function(services, control, *arguments)``."""
        return PortableWork(
            function=function,
            arguments=arguments,
            services=self,
            first=first,
            last=last,
            home=self._home,
            files=files,
        )

    async def run_on_worker(self, work: Callable[[JobControl], T], *, kind: str) -> T:
        """Run ``work`` on the thread that owns torch, as a job of its own in the queue."""
        return await self.engine.submit(work, kind=kind, awaited=True).wait()

    def submit_work(
        self,
        work: Callable[[JobControl], T],
        *,
        kind: str,
        task_id: str | None = None,
        checkpoint: str | None = None,
        meta: Mapping[str, JsonValue] | None = None,
    ) -> ExecutorJob[T]:
        """The queued job of ``work``, which runs on the thread that owns torch.

        :param checkpoint: the title of the checkpoint that it needs.
        :raises Conflict: a job ``task_id`` is waiting or running.
        :raises QueueFull: the queue is at its bound.
        """
        return self.engine.submit(work, kind=kind, task_id=task_id, model_key=self._model_key(checkpoint), meta=meta)

    def worker_context(self, control: JobControl, options: OptionValues | None = None) -> WorkerContext:
        """What an upscaler, restorer or interrogator gets; call it on the worker."""
        return WorkerContext(
            options=self.options.snapshot() if options is None else options,
            device=self.models.policy.device,
            check=control.check,
            services=self,
        )

    async def run_in_thread(self, work: Callable[[], T]) -> T:
        """Call ``work`` off the event loop, as for reading files, and return its result."""
        return await asyncio.to_thread(work)

    def warm_up(self) -> None:
        """Import torch and load the selected checkpoint on the worker when it is idle; once.

        A server that is shutting down or has no place left does nothing: the reply that was sent was a whole one.
        """
        if self._warm:
            return
        self._warm = True
        idle = self.settings.skip_load_model_at_start or self.settings.ui_debug_mode or not len(self.models.checkpoints)
        for place in self.engine.places():
            with suppress(LatentdError):
                self._submit_load(_nothing if idle else self._load, device=place.name)

    # --- models and options ------------------------------------------------------------------------------------------

    async def set_options(self, changes: Mapping[str, JsonValue]) -> None:
        """Set options as ``POST /sdapi/v1/options`` does, and wait for the models they name.

        :raises NotFound: a checkpoint is unknown; no option is changed.
        :raises InvalidRequest: a value has a wrong type; no option is changed.
        :raises NotStored: the options are changed, but could not be written to the disk.
        """
        changes = dict(changes)
        wanted = changes.get("sd_model_checkpoint")
        if wanted is not None:
            changes["sd_model_checkpoint"] = self.models.checkpoints.require(str(wanted), fuzzy=False).title
        before = {key: self.options[key] for key in _LOADING}
        not_stored: NotStored | None = None
        try:
            await asyncio.to_thread(self.options.update, changes)
        except NotStored as error:
            not_stored = error
        reload = [key for key in _LOADING if self.options[key] != before[key]]
        try:
            if reload:
                await self.load_selected()
        except LatentdError:
            await asyncio.to_thread(self.options.update, {key: before[key] for key in reload}, from_api=False)
            raise
        if not_stored is not None:
            raise not_stored

    async def load_selected(self) -> None:
        """Load the selected checkpoint and VAE; A1111's progress does not show this as a job."""
        await self._submit_load(self._load).wait()

    def _submit_load(self, work: Callable[[JobControl], T], device: str | None = None) -> ExecutorJob[T]:
        key = self._model_key(self.models.current.title) if len(self.models.checkpoints) else None
        return self.engine.submit(work, kind="load", quiet=True, model_key=key, device=device)

    def _model_key(self, checkpoint: str | None) -> str | None:
        """What the engine calls a checkpoint: its name, since its title changes when its hash becomes known."""
        found = self.models.checkpoints.named(checkpoint) if checkpoint else None
        return checkpoint if found is None else found.name

    @property
    def _load(self) -> PortableWork[dict[str, JsonValue]]:
        # The first load adds the hash to the title, and clients compare the title with those of /sd-models.
        def know(options: dict[str, JsonValue]) -> None:
            self.options.update(options, from_api=False)

        return self.portable(work.load, last=know, files=lambda: files_of_selection(self, self.hashes.sha256))

    async def unload_models(self) -> None:
        """Drop the models of every device from memory; the selected one stays selected."""
        unload = self.portable(work.unload)
        names = [place.name for place in self.engine.places() if place.state != "drained"]
        jobs = [self.engine.submit(unload, kind="unload", quiet=True, device=name) for name in names]
        await asyncio.gather(*(job.wait() for job in jobs))

    # --- files -------------------------------------------------------------------------------------------------------

    @cached_property
    def embeddings(self) -> EmbeddingStore:
        """The textual-inversion embeddings; reading a file imports torch."""
        from latentd.conditioning.embeddings import EmbeddingStore

        return EmbeddingStore(self.paths.models("embeddings"), self.hashes, carried=self._carried("embedding"))

    def _carried(self, kind: str) -> list[Path]:
        """The weight files of a kind that installed packages contain."""
        return [file.path for file in self.registry.checkpoints.values() if file.kind == kind]

    def embedding_rows(self) -> dict[str, JsonValue]:
        """The body of ``/sdapi/v1/embeddings``."""
        loaded = [model for cache in self.models.caches for model in cache.loaded("checkpoint")]
        return self.embeddings.rows(loaded[-1].context_width if loaded else None)

    def refresh(self, *looks: Callable[[], None]) -> None:
        """Call functions that look through folders again, and have worker processes look as well."""
        for look in looks:
            look()
        self.scans += 1

    def refresh_networks(self) -> None:
        """Search the folders of embeddings and LoRAs again; those of hypernetworks are searched at every use."""
        self.refresh(self.embeddings.refresh, self.networks.refresh)

    @property
    def hypernetworks(self) -> dict[str, Path]:
        """Hypernetwork files by name."""
        hidden = bool(self.options["list_hidden_files"])
        folders = self.paths.models("hypernetworks")
        found = [file for folder in folders for file in find_models(folder, (".pt",), hidden=hidden)]
        return {file.path.stem: file.path for file in found if file.path.stem != "None"}

    def hypernetwork_rows(self) -> list[dict[str, str]]:
        """The body of ``/sdapi/v1/hypernetworks``."""
        return [{"name": name, "path": str(path)} for name, path in self.hypernetworks.items()]

    def lora_rows(self) -> list[dict[str, JsonValue]]:
        """The body of ``/sdapi/v1/loras``."""
        return [
            {"name": net.name, "alias": net.alias, "path": str(net.path), "metadata": dict(net.metadata)}
            for net in self.networks.list()
        ]

    # --- pictures ----------------------------------------------------------------------------------------------------

    async def decode_image(self, text: str) -> Image:
        """The picture in or behind a request's image string, with the checks of URLs and sizes."""
        return await self.images.decode(text)

    def image_decoder(self) -> Callable[[str], Image]:
        """A :meth:`decode_image_now` for the pictures of one request, which may have ``--max-batch-mp`` in all."""
        return self.images.decoder()

    def decode_image_now(self, text: str) -> Image:
        """Decode on the calling thread: see :meth:`decode_image`."""
        return self.images.decode_now(text)

    async def encode_image(self, image: Image, info: Mapping[str, str] | None = None) -> str:
        """Base64 text of the picture in the format of option ``samples_format``."""
        return await self.images.encode(image, info)

    # --- start and end -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Call the plugins' start hooks; only the first call does so."""
        if not self._started:
            self._started = True
            self.host.startup(self)

    def close(self) -> None:
        """End the jobs, then the plugins."""
        self.engine.close()
        self.host.shutdown(self)
        self.images.close()

    def problems(self) -> list[str]:
        """The reasons why generations cannot be served; empty if they can. Runs the plugins' health checks."""
        found = list(self.host.missing_required())
        if not len(self.models.checkpoints):
            found.append("no checkpoint was found")
        places = self.engine.places()
        if all(place.state == "drained" for place in places):
            found.append("no device is left: " + "; ".join(f"{place.name}: {place.trouble}" for place in places))
        for check in self.registry.health.values():
            try:
                trouble = check.check()
            except Exception as error:
                log.exception("health check %s failed", check.name)
                trouble = f"{type(error).__name__}"
            if trouble:
                found.append(f"{check.name}: {trouble}")
        return found

    def failed_devices(self) -> list[str]:
        """The devices that take no more jobs, each with the reason."""
        return [f"{place.name}: {place.trouble}" for place in self.engine.places() if place.state == "drained"]

    def exit(self, kind: str) -> bool:
        """Make the process end: ``kill``, ``stop`` or ``restart``. Return False if that is not possible."""
        return self.on_exit(kind)


def own(services: Services) -> AppServices:
    """The server's own object behind what a plugin got.

    :raises TypeError: a plugin made it up.
    """
    if not isinstance(services, AppServices):
        raise TypeError(f"{type(services).__name__} is not this server's services")
    return services


def _nothing(control: JobControl) -> None:
    """Work of a worker that only imports what it will need."""


def _modules(extra: Sequence[tuple[str, object]]) -> list[tuple[str, str]]:
    """The names of ``extra`` plugins and of their modules.

    :raises NotConfigured: one is an object of this process.
    """
    for name, plugin in extra:
        if not isinstance(plugin, ModuleType):
            raise NotConfigured(f"--worker-processes needs plugin {name!r} to be a module")
    return [(name, plugin.__name__) for name, plugin in extra if isinstance(plugin, ModuleType)]


def create_services(
    settings: Settings,
    *,
    extra_plugins: Iterable[tuple[str, object]] = (),
    serve_http: bool = True,
    executor: Executor | None = None,
) -> AppServices:
    """The services that ``settings`` describe. No model is loaded and no thread started yet.

    :param executor: takes the place of those of plugins and of the core.
    :raises LatentdError: a flag asks for something impossible.
    """
    return AppServices(settings, extra_plugins=extra_plugins, serve_http=serve_http, executor=executor)
