"""Extra-network tags in prompts: ``<lora:name:0.8>``, ``<hypernet:name:1>``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_TAG = re.compile(r"<(\w+):([^>]+)>")


@dataclass(frozen=True, slots=True)
class NetworkTag:
    """One tag: the kind of network, and its arguments as written.

    :param name: what stands before the first colon: ``lora``, ``lyco``, ``hypernet`` or anything else.
    :param positional: arguments without ``=`` (or with more than one), in order; the first is the network's name.
    :param named: arguments with exactly one ``=``; of equal names the last counts.
    """

    name: str
    positional: tuple[str, ...]
    named: Mapping[str, str] = field(default_factory=dict)


def extract_networks(prompt: str) -> tuple[str, list[NetworkTag]]:
    """``prompt`` without its tags, and the tags in order; unknown kinds of networks are tags too."""
    tags: list[NetworkTag] = []

    def take(match: re.Match[str]) -> str:
        tags.append(_tag(match[1], match[2].split(":")))
        return ""

    # No tag can begin after the last ">", and searching there is slow for text full of "<".
    end = prompt.rfind(">") + 1
    return _TAG.sub(take, prompt[:end]) + prompt[end:], tags


def _tag(name: str, arguments: list[str]) -> NetworkTag:
    named = dict(argument.split("=") for argument in arguments if argument.count("=") == 1)
    return NetworkTag(name, tuple(argument for argument in arguments if argument.count("=") != 1), named)
