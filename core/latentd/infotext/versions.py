"""The ``Version`` key, by which pictures of old versions ask for old behaviour."""

from __future__ import annotations

import re

_VERSION = re.compile(r"v?(\d+(?:\.\d+){0,5})(?:[-.]?(a|b|rc|alpha|beta)[-.]?\d*)?(?:-(\d+))?", re.IGNORECASE)

OWN_VERSION = "latentd-"
"""The beginning of latentd's own versions. AUTOMATIC1111's begin otherwise, so readers switch no old behaviour on."""

Order = tuple[tuple[int, ...], bool, int]
"""A version in comparable form: release, whether it is final, commits since."""


def parse_version(text: str | None) -> Order | None:
    """The version in ``text``, such as ``v1.8.0`` or ``v1.7.0-225-gabcdef``; None for anything else.

    What follows the second ``-`` is ignored.
    """
    match = _VERSION.fullmatch("-".join((text or "").strip().split("-")[:2]))
    if match is None or len(match[0]) > 60:
        return None
    release = tuple(map(int, match[1].split(".")))
    while release and release[-1] == 0:
        release = release[:-1]
    return release, match[2] is None, int(match[3] or 0)


def compatibility_flags(version: str | None, prompt: str, sampler: str, refiner: object) -> dict[str, bool]:
    """The old behaviours that an infotext of ``version`` implies, by their infotext keys; only True values.

    Empty if the version is missing or unreadable.
    """
    order = parse_version(version)
    if order is None:
        return {}
    before_160 = order < ((1, 6), True, 0)
    flags = {
        "Old prompt editing timelines": before_160 and "[" in prompt,
        "Pad conds v0": before_160 and sampler in {"DDIM", "PLMS"},
        "Downcast alphas_cumprod": order < ((1, 7), True, 225),
        "Refiner switch by sampling steps": order < ((1, 8), True, 0) and bool(refiner),
    }
    return {key: value for key, value in flags.items() if value}
