"""Checks of plugins: that their hooks exist with the right signatures, and that they register valid values."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import pluggy

from latentd.errors import near_matches
from latentd.plugins.status import PluginRefused

# Hook → (field of Contribution, "module:class" of its items or None). Classes are named rather than imported: some take
# time to import, and others belong to higher layers.
REGISTRATIONS: dict[str, tuple[str, str | None]] = {
    "register_options": ("options", "latentd.contributions:OptionSpec"),
    "register_samplers": ("samplers", "latentd.sampling.spec:SamplerSpec"),
    "register_schedulers": ("schedulers", "latentd.sampling.spec:SchedulerSpec"),
    "register_scripts": ("scripts", "latentd.generations:Script"),
    "register_postprocessors": ("postprocessors", "latentd.services:PostprocessorSpec"),
    "register_extra_networks": ("extra_networks", "latentd.generations:ExtraNetworkSpec"),
    "register_checkpoints": ("checkpoints", "latentd.contributions:ModelFile"),
    "register_model_formats": ("model_formats", "latentd.contributions:ModelFormatSpec"),
    "register_routes": ("routers", None),
    "register_upscalers": ("upscalers", "latentd.services:UpscalerSpec"),
    "register_face_restorers": ("face_restorers", "latentd.services:FaceRestorerSpec"),
    "register_detectors": ("detectors", "latentd.services:DetectorSpec"),
    "register_interrogators": ("interrogators", "latentd.services:InterrogatorSpec"),
    "register_preprocessors": ("preprocessors", "latentd.services:PreprocessorSpec"),
    "register_health": ("health", "latentd.contributions:HealthSpec"),
}


def check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    """Check a registered plugin against the contract; pluggy has checked the names of arguments before.

    :raises PluginRefused: it implements a hook that does not exist, or a hook wrapper.
    """
    known = [name for name in dir(manager.hook) if not name.startswith("_") and _spec_of(manager, name)]
    for caller in manager.get_hookcallers(plugin) or ():
        for implementation in caller.get_hookimpls():
            if implementation.plugin is not plugin or implementation.optionalhook:
                continue
            if not caller.has_spec():
                hint = near_matches(caller.name, known) or "see latentd.hookspecs for the hooks that exist"
                raise PluginRefused(f"there is no hook {caller.name!r}: {hint}")
            if implementation.wrapper or implementation.hookwrapper:
                raise PluginRefused(f"hook {caller.name!r}: wrappers are not supported; implement the hook itself")


def _spec_of(manager: pluggy.PluginManager, name: str) -> bool:
    caller = getattr(manager.hook, name)
    return isinstance(caller, pluggy.HookCaller) and caller.has_spec()


def check_items(hook: str, result: object) -> list[Any]:  # of the class that REGISTRATIONS names
    """The result of a registration hook, checked to be a list of named values of the right class.

    :raises PluginRefused: it is not a list, or an item is of another class or has no name.
    """
    if result is None:
        return []
    if isinstance(result, (str, bytes)) or not isinstance(result, Iterable):
        raise PluginRefused(f"{hook} returned {type(result).__name__}, not a list")
    items = list(result)
    reference = REGISTRATIONS[hook][1]
    for item in items:
        if reference is not None:
            _check_class(hook, item, reference)
        elif not hasattr(item, "routes"):
            raise PluginRefused(f"{hook} returned {item!r}, which is no router")
    return items


def _check_class(hook: str, item: object, reference: str) -> None:
    module, _, name = reference.partition(":")
    if not isinstance(item, getattr(import_module(module), name)):
        raise PluginRefused(f"{hook} returned {item!r}, which is no {name}")
    if not name_of(item):
        raise PluginRefused(f"{hook} returned a {name} without a name")


def name_of(item: object) -> str:
    """The name under which an item is registered: ``name``, a script's ``title`` or an option's ``key``."""
    for attribute in ("name", "title", "key"):
        value = getattr(item, attribute, None)
        if isinstance(value, str):
            return value
    return ""
