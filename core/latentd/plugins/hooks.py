"""A typed interface to the hooks of running jobs: one method for each hook, with errors that name the plugin."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import pluggy

from latentd.plugins import blame
from latentd.plugins.blame import blamed
from latentd.plugins.calls import Implementation, implementations

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from latentd.executors import Executor
    from latentd.generations import Generation, UNetHook
    from latentd.settings import Settings
    from latentd.types import JsonValue, Result

logger = logging.getLogger(__name__)

MUTED_AFTER = 3
R = TypeVar("R")
Check = Callable[[object], R]


class Hooks:
    """Calls the hooks of every loaded plugin.

    A plugin's exception becomes :class:`~latentd.errors.PluginError`; a :class:`~latentd.errors.LatentdError` that it
    raised on purpose passes through. Observers are logged instead, and muted after three failures in a row.
    """

    def __init__(self, manager: pluggy.PluginManager) -> None:
        self._manager = manager
        self._found: dict[str, list[Implementation]] = {}
        self._failures: Counter[tuple[str, str]] = Counter()

    def refresh(self) -> None:
        """Look up again which plugins implement which hooks; the host calls this when plugins are added or removed."""
        self._found = {}

    def _each(self, hook: str) -> list[Implementation]:
        if hook not in self._found:
            self._found[hook] = implementations(self._manager, hook)
        return self._found[hook]

    def implemented(self, hook: str) -> bool:
        """Whether any loaded plugin has ``hook``."""
        return bool(self._each(hook))

    @staticmethod
    def _call(implementation: Implementation, arguments: Mapping[str, object], check: Check[R]) -> R | None:
        """The implementation's value, through ``check`` unless it is None."""
        with blamed(implementation.plugin, implementation.hook):
            value = implementation(arguments)
            return None if value is None else check(value)

    def _run(self, hook: str, *, check: Check[R], **arguments: object) -> list[R]:
        """What the implementations give, those that give None left out."""
        found = (self._call(implementation, arguments, check) for implementation in self._each(hook))
        return [value for value in found if value is not None]

    def _tell(self, hook: str, **arguments: object) -> None:
        for implementation in self._each(hook):
            with blamed(implementation.plugin, implementation.hook):
                implementation(arguments)

    def _chain(self, hook: str, name: str, value: R, check: Check[R], **arguments: object) -> R:
        """``value``, passed from plugin to plugin as the argument ``name``; a plugin that returns None keeps it."""
        for implementation in self._each(hook):
            result = self._call(implementation, {**arguments, name: value}, check)
            value = value if result is None else result
        return value

    def _first(self, hook: str, *, check: Check[R], **arguments: object) -> R | None:
        for implementation in self._each(hook):
            result = self._call(implementation, arguments, check)
            if result is not None:
                return result
        return None

    def _observe(self, hook: str, **arguments: object) -> None:
        for implementation in self._each(hook):
            key = (implementation.plugin, hook)
            if self._failures[key] >= MUTED_AFTER:
                continue
            try:
                implementation(arguments)
                self._failures[key] = 0
            except Exception:
                self._failures[key] += 1
                muted = "; it is not called again" if self._failures[key] >= MUTED_AFTER else ""
                logger.exception("observer %s of plugin %s failed%s", hook, implementation.plugin, muted)

    # --- process -----------------------------------------------------------------------------------------------------

    def authenticate(self, request: object) -> str | None:
        """The user's name if a plugin authenticates the request."""
        return self._first("authenticate", check=blame.text, request=request)

    def error_reply(self, path: str, status: int, document: JsonValue) -> tuple[int, JsonValue] | None:
        """What a plugin answers in place of an error."""
        return self._first("error_reply", check=blame.status_and_body, path=path, status=status, document=document)

    def create_executor(self, settings: Settings) -> Executor | None:
        """An executor that replaces the core's, if a plugin has one."""
        return self._first("create_executor", check=blame.executor, settings=settings)

    # --- one generation ----------------------------------------------------------------------------------------------

    def before_process(self, generation: Generation) -> None:
        """The models are loaded and nothing is computed yet."""
        self._tell("before_process", generation=generation)

    def modify_conditioning(self, generation: Generation) -> None:
        """``generation.conditioning`` of the coming batch is made."""
        self._tell("modify_conditioning", generation=generation)

    def unet_hooks(self, generation: Generation) -> list[UNetHook]:
        """The UNet hooks of every plugin for this job."""
        found: list[UNetHook] = []
        for implementation in self._each("unet_hooks"):
            for hook in self._call(implementation, {"generation": generation}, blame.hooks) or ():
                hook.owner = implementation.plugin
                found.append(hook)
        return found

    def before_batch(self, generation: Generation) -> None:
        """A batch is about to be sampled."""
        self._tell("before_batch", generation=generation)

    def after_batch(self, generation: Generation) -> None:
        """The batch's pictures are decoded and not yet finished."""
        self._tell("after_batch", generation=generation)

    def before_step(self, generation: Generation) -> None:
        """A sampling step is about to begin."""
        self._tell("before_step", generation=generation)

    def after_step(self, generation: Generation) -> None:
        """A sampling step is done."""
        self._tell("after_step", generation=generation)

    def modify_guidance(self, generation: Generation, x0: Tensor, cond: Tensor, uncond: Tensor | None) -> Tensor:
        """The guided prediction [B,C,h,w] after every plugin's change."""
        arguments = {"generation": generation, "cond": cond, "uncond": uncond}
        return self._chain("modify_guidance", "x0", x0, blame.like(x0), **arguments)

    def after_sample(self, generation: Generation, latents: Tensor) -> Tensor:
        """The sampled latents [B,C,h,w] after every plugin's change."""
        return self._chain("after_sample", "latents", latents, blame.like(latents), generation=generation)

    def postprocess_image(self, generation: Generation, image: Image, index: int) -> Image:
        """Picture ``index`` of the batch after every plugin's change."""
        arguments = {"generation": generation, "index": index}
        return self._chain("postprocess_image", "image", image, blame.picture, **arguments)

    def before_save(self, generation: Generation, image: Image, index: int, path: str) -> None:
        """A picture is about to be written to ``path``."""
        self._tell("before_save", generation=generation, image=image, index=index, path=path)

    def infotext(self, generation: Generation, index: int) -> dict[str, JsonValue]:
        """Further entries for the infotext of picture ``index``; of equal keys the last plugin's counts."""
        entries: dict[str, JsonValue] = {}
        for found in self._run("infotext", check=blame.mapping, generation=generation, index=index):
            entries |= found
        return entries

    def after_process(self, generation: Generation, result: Result) -> None:
        """The job is done and its result complete."""
        self._tell("after_process", generation=generation, result=result)

    # --- observers ---------------------------------------------------------------------------------------------------

    def job_event(self, job_id: str, event: str, data: Mapping[str, JsonValue]) -> None:
        """A job changed: queued, started, progress, completed, failed, cancelled."""
        self._observe("job_event", job_id=job_id, event=event, data=data)

    def request_begun(self, request: object) -> None:
        """A request has come in."""
        self._observe("request_begun", request=request)

    def request_done(self, method: str, route: str, status: int, seconds: float) -> None:
        """A reply has been sent."""
        self._observe("request_done", method=method, route=route, status=status, seconds=seconds)

    def model_event(self, name: str, event: str) -> None:
        """A model was loaded, moved or dropped."""
        self._observe("model_event", name=name, event=event)
