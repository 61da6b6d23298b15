"""Pictures made by NovelAI carry JSON; here it becomes an infotext."""

from __future__ import annotations

import json
from collections.abc import Mapping


def novelai_infotext(
    items: Mapping[str, object], width: int, height: int, sampler_names: Mapping[str, str]
) -> str | None:
    """The infotext of a picture whose text entries are ``items``; None when it is not NovelAI's, or is incomplete.

    :param width: of the picture, like ``height``; NovelAI's own size is not read.
    :param sampler_names: sampler alias → name; an unknown alias is taken for Euler a.
    """
    if items.get("Software") != "NovelAI":
        return None
    try:
        made = json.loads(str(items["Comment"]))
        sampler = sampler_names.get(str(made["sampler"]), "Euler a")
        return (
            f"{items['Description']}\n"
            f"Negative prompt: {made['uc']}\n"
            f"Steps: {made['steps']}, Sampler: {sampler}, CFG scale: {made['scale']}, Seed: {made['seed']}, "
            f"Size: {width}x{height}, Clip skip: 2, ENSD: 31337"
        )
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
