"""Checks of what a plugin offers. Each raises ``AssertionError`` with a sentence that says what is wrong."""

from __future__ import annotations

import inspect
import json

from latentd.arguments import parse_positional
from latentd.generations import AnyScript
from latentd.options import OptionStore
from latentd.plugins.host import PluginHost
from latentd.plugins.routes import route_keys
from latentd.plugins.script_info import script_info
from latentd.plugins.selection import Selection
from latentd.services import UpscalerSpec, WorkerContext
from latentd.testing.headless import HeadlessServices

UNDER_TEST = "plugin under test"


def check_hooks(plugin: object) -> PluginHost:
    """A host that has loaded ``plugin`` and the core's own plugins.

    :raises AssertionError: the host refused it, because of a misspelt hook, a wrong signature or a clash with the core.
    """
    options = OptionStore()
    host = PluginHost(options, Selection(core_only=True), extra=[(UNDER_TEST, plugin)])
    host.load()
    host.attach(HeadlessServices(options=options, registry=host.registry))
    status = host.statuses[UNDER_TEST]
    assert status.state == "loaded", f"{status.error}\n{status.traceback}"
    return host


def check_routers(plugin: object) -> set[tuple[str, str]]:
    """(method, path) of every route of ``plugin``; path parameters are shown as ``{}``.

    :raises AssertionError: the host refused it, or a route handler is not async and would block a thread.
    """
    host = check_hooks(plugin)
    routers = [router for owner, router in host.routers() if owner == UNDER_TEST]
    for router in routers:
        for route in router.routes:
            endpoint = getattr(route, "endpoint", None)
            is_async = endpoint is None or inspect.iscoroutinefunction(endpoint)
            assert is_async, f"{route.path}: write route handlers as `async def`"
    return {key for router in routers for key in route_keys(router)}


def check_script(script: AnyScript) -> None:
    """Check a script's title, its arguments and its row in ``/script-info``.

    :raises AssertionError: the title is missing, an argument has no default, or a list and an object give different
        arguments.
    """
    assert script.title, "a script needs a title"
    fields = script.Args.model_fields
    needed = [name for name, entry in fields.items() if entry.is_required()]
    assert not needed, f"arguments without a default: {', '.join(needed)}; clients may leave any of them out"
    defaults = script.Args()
    values = [getattr(defaults, name) for name in fields]
    keys = [entry.alias or name for name, entry in fields.items()]
    assert parse_positional(script.Args, values) == defaults, "its own defaults, as a list, are not accepted"
    assert parse_positional(script.Args, dict(zip(keys, values, strict=True))) == defaults, "an object is not accepted"
    for mode in script.modes:
        json.dumps(script_info(script, mode))


def check_upscaler(spec: UpscalerSpec, *, size: tuple[int, int] = (48, 32), scale: float = 2.0) -> None:
    """Run an upscaler on a small picture.

    :raises AssertionError: the result is smaller than the input, not RGB, or differs from run to run.
    """
    from PIL import Image

    source = Image.linear_gradient("L").resize(size).convert("RGB")
    context = WorkerContext(options=OptionStore().snapshot())
    first, second = (spec.upscale(source.copy(), scale, context) for _ in range(2))
    assert first.mode == "RGB", f"{spec.name}: gave mode {first.mode}, not RGB"
    grown = first.width >= size[0] and first.height >= size[1]
    assert grown, f"{spec.name}: gave {first.size} for an input of {size}"
    assert first.tobytes() == second.tobytes(), f"{spec.name}: two runs on one picture differ"
