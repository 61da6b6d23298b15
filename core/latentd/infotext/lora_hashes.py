"""The key ``Lora hashes``: the same network may have another name here than where the picture was made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_TAG = re.compile(r"<lora:([^:>]+):")


def format_hashes(pairs: Iterable[tuple[str, str]]) -> str:
    """``name: hash`` for each pair of ``pairs``, joined by commas; colons and commas are taken out of names."""
    return ", ".join(f"{re.sub('[:,]', '', name)}: {digest}" for name, digest in pairs)


def rename_by_hash(prompt: str, hashes: str, local_names: Mapping[str, str]) -> str:
    """``prompt`` with every ``<lora:name:`` whose hash is known locally renamed to the local name.

    :param hashes: value of the key ``Lora hashes``.
    :param local_names: short hash → the name that the network has here.
    """
    known: dict[str, str] = {}
    for entry in hashes.split(","):
        name, colon, digest = entry.partition(":")
        if colon and digest.strip() in local_names:
            known[name.strip()] = local_names[digest.strip()]
    return _TAG.sub(lambda tag: f"<lora:{known.get(tag[1], tag[1])}:", prompt)
