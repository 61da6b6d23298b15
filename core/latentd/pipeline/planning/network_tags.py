"""The arguments of the core's prompt tags, and checks of tags before anything is loaded, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentd.errors import InvalidRequest
from latentd.models.files.safetensors_header import check_header
from latentd.pipeline.planning.limits import check_weight
from latentd.prompts.networks import NetworkTag

if TYPE_CHECKING:
    from latentd.services import Services


@dataclass(frozen=True, slots=True)
class LoraArguments:
    """``<lora:name:te:unet:dyn>``, or named ``te=``, ``unet=``, ``dyn=``; ``unet`` defaults to ``te``, ``te`` to 1."""

    name: str
    te: float
    unet: float
    dyn: int | None


def lora_arguments(tag: NetworkTag) -> LoraArguments:
    """The arguments of a ``<lora:...>`` tag.

    :raises InvalidRequest: one of them is not a number, or far too large.
    """
    te = _number(tag, 1, 1.0, "te")
    dyn = _number(tag, 3, 0.0, "dyn")
    if dyn < 0:
        raise InvalidRequest(f"{_written(tag)} keeps {dyn:g} ranks", hint="dyn is the number of ranks to keep")
    unet = _number(tag, 2, te, "unet")
    for weight in (te, unet):
        check_weight(weight, _written(tag))
    return LoraArguments(tag_name(tag), te, unet, int(dyn) or None)


def hypernetwork_multiplier(tag: NetworkTag) -> float:
    """The multiplier of a ``<hypernet:name:multiplier>`` tag, 1 by default.

    :raises InvalidRequest: it is not a number, or far too large.
    """
    multiplier = _number(tag, 1, 1.0)
    check_weight(multiplier, _written(tag))
    return multiplier


def surplus_arguments(tag: NetworkTag) -> str | None:
    """A sentence about the arguments of a tag that have no effect; None if all have one."""
    positional, named = (2, ()) if tag.name == "hypernet" else (4, ("te", "unet", "dyn"))
    unknown = (f"{key}={value}" for key, value in tag.named.items() if key not in named)
    surplus = ", ".join(map(repr, (*tag.positional[positional:], *unknown)))
    return f"{_written(tag)}: without effect: {surplus}" if surplus else None


def tag_name(tag: NetworkTag) -> str:
    """The name of the network in the tag; empty if it has none."""
    return tag.positional[0] if tag.positional else ""


def check_lora(services: Services, tag: NetworkTag) -> None:
    """Check a ``<lora:...>`` tag.

    :raises InvalidRequest: an argument is not a number.
    :raises ModelLoadError: the file is not what its name says.
    """
    network = services.networks.find(lora_arguments(tag).name)
    if network is not None:
        check_header(network.path)


def check_hypernetwork(_services: Services, tag: NetworkTag) -> None:
    """Check a ``<hypernet:...>`` tag.

    :raises InvalidRequest: the multiplier is not a number.
    """
    hypernetwork_multiplier(tag)


def _number(tag: NetworkTag, position: int, default: float, name: str | None = None) -> float:
    if name is not None and name in tag.named:
        text = tag.named[name]
    elif len(tag.positional) > position:
        text = tag.positional[position]
    else:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InvalidRequest(f"{_written(tag)} has {text!r} where a number is wanted")
    return number


def _written(tag: NetworkTag) -> str:
    return f"<{':'.join((tag.name, *tag.positional, *(f'{key}={value}' for key, value in tag.named.items())))}>"
