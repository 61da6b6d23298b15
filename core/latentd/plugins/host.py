"""The plugin host: finds plugins, imports each in isolation, registers what they offer, and reports their states."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pluggy

from latentd import hookspecs
from latentd.errors import LatentdError
from latentd.options import OptionStore
from latentd.plugins.builtin import BUILTINS
from latentd.plugins.calls import implementations
from latentd.plugins.contribution import Contribution
from latentd.plugins.discovery import Candidate, answers_to, discover
from latentd.plugins.hooks import Hooks
from latentd.plugins.registry import Registries
from latentd.plugins.routes import RouteTable
from latentd.plugins.selection import Selection
from latentd.plugins.status import PluginRefused, PluginStatus, State
from latentd.plugins.validation import REGISTRATIONS, check_hooks, check_items, name_of
from latentd.types import JsonValue

if TYPE_CHECKING:
    from latentd.services import Services
    from latentd.settings import Settings

logger = logging.getLogger(__name__)

NEEDS_SERVICES = (
    "register_routes",
    "register_upscalers",
    "register_face_restorers",
    "register_detectors",
    "register_interrogators",
    "register_preprocessors",
    "register_health",
)
NEEDS_NOTHING = tuple(hook for hook in REGISTRATIONS if hook not in NEEDS_SERVICES)


class PluginHost:
    """The plugins of one server.

    The methods are called in the order :meth:`load` (imports, and hooks that need no server), :meth:`attach` (hooks
    that need the server's services), :meth:`startup`, and at the end :meth:`shutdown`. A plugin that fails in one of
    them is removed with everything that it offers.

    :param options: the store to which the plugins' options are added.
    :param selection: which plugins are wanted.
    :param extra: plugins that are not distributions, by name: modules or objects with hooks (tests, embedding).
    :param builtins: modules of the core's own plugins.
    """

    def __init__(
        self,
        options: OptionStore,
        selection: Selection | None = None,
        *,
        extra: Iterable[tuple[str, object]] = (),
        builtins: Sequence[str] = BUILTINS,
    ) -> None:
        self.options = options
        self.selection = selection or Selection()
        self.registry = Registries()
        self.routes = RouteTable()
        self.statuses: dict[str, PluginStatus] = {}
        self._extra = list(extra)
        self._builtins = builtins
        self._contributions: dict[str, Contribution] = {}
        self._services: Services | None = None
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.hooks = Hooks(self._manager)

    @classmethod
    def from_settings(
        cls, settings: Settings, options: OptionStore | None = None, *, extra: Iterable[tuple[str, object]] = ()
    ) -> PluginHost:
        """A host with all plugins loaded that the flags ask for."""
        host = cls(options or OptionStore.from_settings(settings), Selection.from_settings(settings), extra=extra)
        host.load()
        return host

    # --- the life of plugins -----------------------------------------------------------------------------------------

    def load(self) -> None:
        """Import the built-ins and every wanted plugin, and register what needs no server."""
        for module in self._builtins:
            name = "latentd." + module.rpartition(".")[2]
            self.statuses[name] = PluginStatus(name=name, distribution="latentd", builtin=True)
            self._take_in(name, lambda module=module: import_module(module))  # type: ignore[misc]
        for name, plugin in self._extra:
            self.statuses[name] = PluginStatus(name=name)
            self._guarded(name, lambda name=name, plugin=plugin: self._take_in(name, lambda: plugin))  # type: ignore[misc]
        for candidate in discover():
            self._load_candidate(candidate)
        self.hooks.refresh()

    def attach(self, services: Services) -> None:
        """Register what needs ``services``: routes, upscalers, restorers, interrogators, preprocessors, health."""
        self._services = services
        for name in self._running():
            self._guarded(name, lambda name=name: self._gather(name, NEEDS_SERVICES, services=services))  # type: ignore[misc]

    def startup(self, services: Services) -> None:
        """Call the hook ``startup`` of every plugin; one that raises an exception is withdrawn."""
        self._each_running("startup", services, on_error=lambda name, error: self._drop(name, error, "withdrawn"))

    def shutdown(self, services: Services) -> None:
        """Call the hook ``shutdown`` of every plugin; exceptions are logged."""
        self._each_running(
            "shutdown",
            services,
            on_error=lambda name, error: logger.error("plugin %s: %s", name, error, exc_info=error),
        )

    def refresh_upscalers(self) -> None:
        """Register the upscalers of every plugin again. If a plugin fails, its old ones stay."""
        for name in self._running():
            try:
                self._renew(name, "register_upscalers")
            except Exception:
                logger.exception("plugin %s could not list its upscalers; the old list stays", name)

    # --- what the server asks ----------------------------------------------------------------------------------------

    def routers(self) -> list[tuple[str, Any]]:  # FastAPI's, which nothing below the server knows
        """Every router with its owner, the core's first; mount each behind :meth:`require_alive` of its owner."""
        return [(owner, router) for owner, offer in self._contributions.items() for router in offer.routers]

    def require_alive(self, name: str) -> None:
        """Do nothing while the plugin is loaded.

        :raises LatentdError: status 503, naming the plugin that was withdrawn.
        """
        status = self.statuses[name]
        if status.state != "loaded":
            raise LatentdError(
                f"plugin {name!r} is not running: {status.error}",
                status=503,
                hint="GET /latentd/v1/plugins has the traceback",
            )

    def report(self) -> list[dict[str, JsonValue]]:
        """JSON-ready rows for ``latentd plugins`` and ``GET /latentd/v1/plugins``, the core's own first."""
        return [status.row() for status in self.statuses.values()]

    def problems(self) -> dict[str, str]:
        """Failed and withdrawn plugins with their errors; for ``/readyz``."""
        failed = [status for status in self.statuses.values() if status.state in ("failed", "withdrawn")]
        return {status.name: status.error or "failed" for status in failed}

    def missing_required(self) -> list[str]:
        """One sentence for each plugin of ``--require-plugin`` that is not running."""
        missing = []
        for wanted in self.selection.required:
            known = [s for s in self.statuses.values() if answers_to([wanted], s.name, s.distribution)]
            if not known:
                missing.append(f"{wanted}: not installed")
            elif not any(status.state == "loaded" for status in known):
                missing.append(f"{wanted}: {known[0].state}: {known[0].error}")
        return missing

    # --- inside ------------------------------------------------------------------------------------------------------

    def _running(self) -> list[str]:
        return [name for name, status in self.statuses.items() if status.state == "loaded"]

    def _load_candidate(self, candidate: Candidate) -> None:
        name = candidate.name
        status = PluginStatus(name=name, distribution=candidate.distribution, version=candidate.version)
        if reason := self.selection.refusal(name, candidate.distribution):
            status.state, status.error = "disabled", reason
            self.statuses.setdefault(name, status)
            return
        if other := self.statuses.get(name):
            owner = other.distribution or other.name
            status.name = f"{name} ({candidate.distribution})"
            status.fail(PluginRefused(f"{candidate.distribution} and {owner} both bring a plugin {name!r}"))
            self.statuses[status.name] = status
            logger.error("plugin %s failed: %s", status.name, status.error)
            return
        self.statuses[name] = status

        def take_in() -> None:
            candidate.check_version_range()
            self._take_in(name, candidate.entry_point.load)

        self._guarded(name, take_in)

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        """Run ``work`` for a plugin. If it raises anything, ``SystemExit`` included, only that plugin fails.

        Built-ins are not protected in this way, because the server cannot run without them.
        """
        if self.statuses[name].builtin:
            work()
            return
        try:
            work()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._drop(name, error, "failed")

    def _take_in(self, name: str, load: Callable[[], object]) -> None:
        plugin = load()
        self._manager.register(plugin, name=name)
        check_hooks(self._manager, plugin)
        self._contributions[name] = Contribution(plugin=name)
        self._gather(name, NEEDS_NOTHING)

    def _gather(self, name: str, hooks: Sequence[str], **arguments: object) -> None:
        """Call registration hooks of one plugin, and register all of their results or none."""
        gathered = Contribution(plugin=name)
        for hook in hooks:
            for implementation in implementations(self._manager, hook, plugin=name):
                items = check_items(hook, implementation(arguments))
                getattr(gathered, REGISTRATIONS[hook][0]).extend(items)
        self._commit(gathered)

    def _commit(self, gathered: Contribution) -> None:
        name = gathered.plugin
        taken = self.options.clashes(spec.key for spec in gathered.options)
        clashes = [f"option {key!r} belongs to {owner}" for key, owner in taken.items()]
        clashes += self.registry.clashes(gathered) + self.routes.clashes(gathered.routers)
        if clashes:
            raise PluginRefused(f"{name} clashes: " + "; ".join(clashes))
        self.options.register(name, gathered.options)
        self.registry.commit(gathered)
        self.routes.add(name, gathered.routers)
        for kind, _ in REGISTRATIONS.values():
            items = getattr(gathered, kind)
            getattr(self._contributions[name], kind).extend(items)
            if items:
                self.statuses[name].contributes[kind] = [name_of(item) or _prefix(item) for item in items]

    def _renew(self, name: str, hook: str) -> None:
        gathered = Contribution(plugin=name)
        for implementation in implementations(self._manager, hook, plugin=name):
            gathered.upscalers += check_items(hook, implementation({"services": self._services}))
        others = [item for item in gathered.upscalers if self._upscaler_owner(item.name) not in (None, name)]
        if others:
            raise PluginRefused(f"{name} clashes: upscaler {others[0].name!r} belongs to another plugin")
        self.registry.upscalers.remove(name)
        self.registry.upscalers.add(name, gathered.upscalers)

    def _upscaler_owner(self, name: str) -> str | None:
        return self.registry.upscalers.owner(name) if name in self.registry.upscalers else None

    def _each_running(self, hook: str, services: Services, *, on_error: Callable[[str, BaseException], None]) -> None:
        for implementation in implementations(self._manager, hook):
            try:
                implementation({"services": services})
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                on_error(implementation.plugin, error)

    def _drop(self, name: str, error: BaseException, state: State) -> None:
        """Remove everything that a plugin offers. Its routers stay known, so that their routes can answer 503."""
        if self._manager.has_plugin(name):
            self._manager.unregister(name=name)
        self.registry.withdraw(name)
        self.options.withdraw(name)
        if state == "failed":
            self._contributions.pop(name, None)
            self.routes.remove(name)
        self.statuses[name].fail(error, state=state)
        self.hooks.refresh()
        logger.error("plugin %s %s: %s", name, state, self.statuses[name].error)


def _prefix(router: object) -> str:
    return getattr(router, "prefix", "") or "/"
