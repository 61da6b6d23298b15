"""Flags of the plugin latentd-ray: they are read before plugins are loaded, so they are declared here."""

from __future__ import annotations

from dataclasses import dataclass

from latentd.settings.flag import integer, json_object, number, switch, text

GROUP = "Ray (needs latentd-ray)"


@dataclass(frozen=True, kw_only=True)
class RayFlags:
    """Where a Ray cluster is, and what of it draws; ``/sdapi/v1/cmd-flags`` does not list them."""

    ray_address: str | None = text(
        None,
        "draw on this Ray cluster: host:port of its head, auto for the one that runs on this machine, "
        "local to start one here",
        group=GROUP,
        listed=False,
    )
    ray_min_actors: int | None = integer(
        None,
        "actors that are kept, each a place that draws; by default one for each GPU of the cluster at the start",
        group=GROUP,
        listed=False,
    )
    ray_max_actors: int | None = integer(
        None,
        "most actors; beyond the least number they are started while jobs wait; by default as many as the least",
        group=GROUP,
        listed=False,
    )
    ray_idle_seconds: float = number(
        300.0, "seconds after which an idle actor beyond the least number ends", group=GROUP, listed=False
    )
    ray_gpus: float = number(1.0, "GPUs of each actor; 0: it draws on the CPU", group=GROUP, listed=False)
    ray_cpus: float = number(1.0, "CPUs of each actor", group=GROUP, listed=False)
    ray_resources: dict[str, object] = json_object(
        'further resources of each actor, as {"big_memory": 1}', group=GROUP, listed=False
    )
    ray_labels: dict[str, object] = json_object(
        'labels that an actor\'s machine must have, as {"ray.io/accelerator-type": "H100"}', group=GROUP, listed=False
    )
    ray_data_dir: str | None = text(
        None, "data folder on the machines of the cluster; by default the server's path", group=GROUP, listed=False
    )
    ray_fetch: bool = switch(
        "copy model files that a machine of the cluster lacks there from this server's folders",
        group=GROUP,
        listed=False,
    )
