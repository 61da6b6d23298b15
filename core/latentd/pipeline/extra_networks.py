"""The core's own prompt tags: ``<lora:...>`` (also ``<lyco:...>``) and ``<hypernet:...>`` (semantics 12.1, 12.2)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentd.errors import InvalidRequest
from latentd.models.hashes import file_stamp
from latentd.networks.files import NetworkContents, read_network
from latentd.networks.hypernetworks import HypernetworkHooks, load_hypernetwork
from latentd.networks.merge import NetworkRequest, NetworkState, Way
from latentd.networks.names import targets_of
from latentd.prompts.networks import NetworkTag

if TYPE_CHECKING:
    from latentd.pipeline.generation import RunningGeneration

log = logging.getLogger(__name__)

LORA = "lora"


def activate_lora(gen: RunningGeneration, tags: Sequence[NetworkTag]) -> None:
    """Lay the networks of ``tags`` over the model in use, and no others; unknown ones are logged and left out.

    They stay until the next job asks for others, so that a series of jobs with the same ones pays once.
    """
    library = gen.services.networks
    requests, hashes = [], []
    for tag in tags:
        request = _request(tag, library, gen.options)
        if request is None:
            continue
        requests.append(request)
        name = tag.positional[0].replace(":", "").replace(",", "")
        hashes.append(f"{name}: {library.short_hash(request.network)}")
    if hashes and gen.options["lora_add_hashes_to_infotext"]:
        gen.infotext["Lora hashes"] = ", ".join(hashes)
    gen.state["networks"] = tuple(requests)
    lay_over(gen, gen.model, requests)


def lay_over(gen: RunningGeneration, model: Any, requests: Sequence[NetworkRequest]) -> None:
    """Make ``requests`` what is laid over ``model``."""
    if model.networks is None:
        if not requests:
            return
        model.networks = NetworkState(keep_on="cpu" if model.policy.offload != "none" else None)
    targets = targets_of(model.unet, model.text_encoders)
    for applied in model.networks.apply(targets, requests, read=_reader(gen)):
        if applied.unmatched:
            log.info(
                "network %s: %d modules changed, %d names unknown to this model",
                applied.network.name,
                applied.matched,
                len(applied.unmatched),
            )


def activate_hypernetworks(gen: RunningGeneration, tags: Sequence[NetworkTag]) -> None:
    """Let the hypernetworks of ``tags`` act on the coming passes; unknown ones are logged and left out."""
    known = gen.services.hypernetworks
    active = []
    for tag in tags:
        name = tag.positional[0] if tag.positional else ""
        path = known.get(name)
        if path is None:
            log.warning("hypernetwork %r not found; it is left out", name)
            continue
        stamp = path.stat().st_mtime_ns
        network = gen.services.models.cache.get(
            ("hypernetwork", str(path), stamp), lambda path=path: load_hypernetwork(path), size=path.stat().st_size
        )
        active.append((network, _number(tag, 1, 1.0)))
    if active:
        gen.network_hooks.append(HypernetworkHooks(active))


def _reader(gen: RunningGeneration) -> Callable[[Path], NetworkContents]:
    """What reads network files: from memory those of the last few (option ``lora_in_memory_limit``)."""
    cache, count = gen.services.models.cache, int(gen.options["lora_in_memory_limit"])
    if count < 1:
        cache.drop(LORA)
        return read_network
    cache.limit(LORA, count)

    def read(path: Path) -> NetworkContents:
        key = (LORA, str(path), *file_stamp(path))
        contents: NetworkContents = cache.get(key, lambda: read_network(path), lambda found: found.nbytes)
        return contents

    return read


def _request(tag: NetworkTag, library: Any, options: Mapping[str, Any]) -> NetworkRequest | None:
    name = tag.positional[0] if tag.positional else ""
    network = library.find(name)
    if network is None:
        level = logging.WARNING if options["lora_not_found_warning_console"] else logging.INFO
        log.log(level, "Lora not found: %s; it is left out", name)
        return None
    way: Way = "beside" if options["lora_functional"] else "merged"
    if options["lora_apply_to_outputs"]:
        way = "outputs"
    te = _number(tag, 1, 1.0, "te")
    unet = _number(tag, 2, te, "unet")
    dyn = _number(tag, 3, 0.0, "dyn")
    return NetworkRequest(network=network, te=te, unet=unet, dyn=int(dyn) or None, way=way)


def _number(tag: NetworkTag, position: int, default: float, name: str = "") -> float:
    text = tag.named.get(name) or (tag.positional[position] if len(tag.positional) > position else None)
    if text is None:
        return default
    try:
        return float(text)
    except ValueError:
        whole = ":".join((tag.name, *tag.positional))
        raise InvalidRequest(f"<{whole}> has {text!r} where a number is wanted") from None
