"""The host with plugins given by the program: whole contributions, refresh, the life of a plugin."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from latentd.api import OptionSpec, UpscalerSpec, hookimpl
from latentd.errors import LatentdError
from latentd.options import OptionStore
from latentd.plugins.host import PluginHost
from latentd.plugins.selection import Selection
from latentd.testing import HeadlessServices


def loaded(**plugins: object) -> PluginHost:
    host = PluginHost(OptionStore(), Selection(core_only=True, required=("a",)), extra=plugins.items())
    host.load()
    return host


def attached(**plugins: object) -> PluginHost:
    host = loaded(**plugins)
    host.attach(HeadlessServices(options=host.options, registry=host.registry))
    return host


def shop(names: list[str], *, option: str | None = None) -> Any:
    """A plugin that offers upscalers of these names, whatever they are when it is asked."""

    @hookimpl
    def register_upscalers() -> list[UpscalerSpec]:
        return [UpscalerSpec(name=name, upscale=lambda image, scale, context: image) for name in names]

    @hookimpl
    def register_options() -> list[OptionSpec]:
        return [OptionSpec(key=option, default=1, help="x")] if option else []

    return SimpleNamespace(register_upscalers=register_upscalers, register_options=register_options)


def test_the_core_comes_in_through_the_same_hooks() -> None:
    host = attached()
    assert "Euler a" in host.registry.samplers
    assert list(host.registry.upscalers) == ["None", "Lanczos", "Nearest"]
    assert all(row["builtin"] for row in host.report() if row["state"] != "disabled")


def test_a_failure_late_in_registration_takes_back_what_came_before() -> None:
    host = attached(a=shop(["Lanczos", "Mine"], option="a_option"))
    assert "upscaler 'Lanczos' belongs to latentd.upscalers" in host.problems()["a"]
    assert "a_option" not in host.options
    assert "Mine" not in host.registry.upscalers
    assert host.missing_required()[0].startswith("a: failed:")


def test_upscalers_are_asked_for_again_when_folders_are_refreshed() -> None:
    names = ["One"]
    host = attached(a=shop(names))
    names[:] = ["Two", "Three"]
    host.refresh_upscalers()
    assert list(host.registry.upscalers) == ["None", "Lanczos", "Nearest", "Two", "Three"]


def test_a_refresh_that_fails_leaves_the_old_list() -> None:
    names = ["One"]
    host = attached(a=shop(names))
    names[:] = ["One", "Lanczos"]
    host.refresh_upscalers()
    assert "One" in host.registry.upscalers
    assert host.registry.upscalers.owner("Lanczos") == "latentd.upscalers"


def test_a_withdrawn_plugin_answers_503_by_name() -> None:
    @hookimpl
    def startup() -> None:
        raise SystemExit("no")

    host = attached(a=SimpleNamespace(startup=startup), b=shop(["One"]))
    host.startup(HeadlessServices())
    with pytest.raises(LatentdError, match="plugin 'a' is not running") as refused:
        host.require_alive("a")
    assert refused.value.status == 503
    host.require_alive("b")


def test_shutdown_goes_on_after_a_failure() -> None:
    stopped = []

    def stopper(name: str) -> object:
        @hookimpl
        def shutdown() -> None:
            stopped.append(name)
            raise RuntimeError(name)

        return SimpleNamespace(shutdown=shutdown)

    host = attached(a=stopper("a"), b=stopper("b"))
    host.shutdown(HeadlessServices())
    assert stopped == ["a", "b"]
    assert host.problems() == {}


def test_ctrl_c_is_not_swallowed() -> None:
    @hookimpl
    def register_options() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loaded(a=SimpleNamespace(register_options=register_options))
