"""Hooks of running jobs: in the order of names, chained, failing the job with the plugin named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from latentd.api import UNetHook, hookimpl
from latentd.errors import Interrupted, InvalidRequest, PluginError
from latentd.options import OptionStore
from latentd.plugins.host import PluginHost
from latentd.plugins.selection import Selection


def hosted(**plugins: object) -> PluginHost:
    host = PluginHost(OptionStore(), Selection(core_only=True), extra=plugins.items(), builtins=())
    host.load()
    assert host.problems() == {}
    return host


def guidance(change: Any) -> object:
    @hookimpl
    def modify_guidance(x0: Any) -> Any:
        return change(x0)

    return SimpleNamespace(modify_guidance=modify_guidance)


def raising(error: BaseException, hook: str = "before_step") -> object:
    @hookimpl
    def implementation() -> None:
        raise error

    return SimpleNamespace(**{hook: implementation})


def test_results_are_chained_in_the_order_of_names_and_none_leaves_them() -> None:
    host = hosted(a=guidance(lambda x: [*x, "a"]), b=guidance(lambda x: None), c=guidance(lambda x: [*x, "c"]))
    assert host.hooks.modify_guidance(None, [], None, None) == ["a", "c"]  # type: ignore[arg-type]


def test_tryfirst_comes_first() -> None:
    @hookimpl(tryfirst=True)
    def modify_guidance(x0: Any) -> Any:
        return [*x0, "first"]

    host = hosted(a=guidance(lambda x: [*x, "a"]), z=SimpleNamespace(modify_guidance=modify_guidance))
    assert host.hooks.modify_guidance(None, [], None, None) == ["first", "a"]  # type: ignore[arg-type]


def test_a_plugins_error_fails_the_job_with_plugin_and_hook_named() -> None:
    host = hosted(mine=raising(KeyError("x")))
    with pytest.raises(PluginError, match="plugin 'mine' failed in before_step: KeyError: 'x'"):
        host.hooks.before_step(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [InvalidRequest("no"), Interrupted("stop")])
def test_an_error_raised_on_purpose_passes_through(error: Exception) -> None:
    with pytest.raises(type(error)):
        hosted(mine=raising(error)).hooks.before_step(None)  # type: ignore[arg-type]


def test_an_observer_fails_quietly_and_is_muted_after_three_failures(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    @hookimpl
    def job_event(job_id: str) -> None:
        heard.append(job_id)

    host = hosted(a=raising(RuntimeError("x"), "job_event"), b=SimpleNamespace(job_event=job_event))
    for number in range(5):
        host.hooks.job_event(str(number), "queued", {})
    assert heard == ["0", "1", "2", "3", "4"]
    assert len(caplog.records) == 3
    assert "not called again" in caplog.records[-1].message


def test_infotext_is_joined_and_unet_hooks_are_listed() -> None:
    def plugin(name: str) -> object:
        @hookimpl
        def infotext() -> dict[str, str]:
            return {name: "1", "both": name}

        @hookimpl
        def unet_hooks() -> list[UNetHook]:
            return [UNetHook()]

        return SimpleNamespace(infotext=infotext, unet_hooks=unet_hooks)

    host = hosted(a=plugin("a"), b=plugin("b"))
    assert host.hooks.infotext(None, 0) == {"a": "1", "b": "1", "both": "b"}  # type: ignore[arg-type]
    assert [hook.owner for hook in host.hooks.unet_hooks(None)] == ["a", "b"]  # type: ignore[arg-type]


def test_the_first_to_vouch_wins() -> None:
    def voucher(user: str | None) -> object:
        @hookimpl
        def authenticate() -> str | None:
            return user

        return SimpleNamespace(authenticate=authenticate)

    assert hosted(a=voucher(None), b=voucher("bea"), c=voucher("cid")).hooks.authenticate(None) == "bea"


def test_wrappers_are_refused() -> None:
    @hookimpl(wrapper=True)
    def before_step(generation: Any) -> Any:
        return (yield)

    host = PluginHost(
        OptionStore(), Selection(core_only=True), extra=[("w", SimpleNamespace(before_step=before_step))], builtins=()
    )
    host.load()
    assert "wrappers are not supported" in host.problems()["w"]
