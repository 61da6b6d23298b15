"""Flags that choose plugins."""

from __future__ import annotations

from dataclasses import dataclass

from latentd.settings.flag import switch, texts

GROUP = "plugins and engine"


@dataclass(frozen=True, kw_only=True)
class PluginFlags:
    """Flags of latentd about plugins; ``/sdapi/v1/cmd-flags`` does not list them."""

    disable_plugin: tuple[str, ...] = texts(
        (),
        "do not load this plugin; may be given several times",
        group=GROUP,
        metavar="NAME",
        listed=False,
        commas=True,
    )
    require_plugin: tuple[str, ...] = texts(
        (),
        "exit with status 2 unless this plugin loads and starts; may be given several times",
        group=GROUP,
        metavar="NAME",
        listed=False,
        commas=True,
    )
    core_only: bool = switch("load no plugin at all", group=GROUP, listed=False)
    plugins: tuple[str, ...] | None = texts(
        None,
        "load only these plugins; also the environment variable LATENTD_PLUGINS=a,b",
        group=GROUP,
        metavar="NAME",
        listed=False,
        commas=True,
    )
    allow_code: bool = switch("offer the script that runs Python code from the request", group=GROUP)
