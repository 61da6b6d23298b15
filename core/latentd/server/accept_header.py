"""What an ``Accept`` header prefers (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

JSON = "application/json"
_MOST_RANGES = 100


def preferred_picture(accept: str, pictures: Sequence[str]) -> str | None:
    """The media type of ``pictures`` that the header clearly prefers to JSON; None where JSON will do as well.

    Of several with the same weight the one the header names first is taken, then the order of ``pictures`` counts.
    """
    ranges = _ranges(accept)
    named = [media for media, _ in ranges]
    best = max(
        pictures, key=lambda media: (_weight(media, ranges), -named.index(media) if media in named else -len(named))
    )
    return best if _weight(best, ranges) > _weight(JSON, ranges) else None


def _weight(media: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The weight of the most specific range that fits; an empty header takes everything."""
    if not ranges:
        return 1.0
    for fitting in (media, media.partition("/")[0] + "/*", "*/*"):
        found = [weight for named, weight in ranges if named == fitting]
        if found:
            return max(found)
    return 0.0


def _ranges(accept: str) -> list[tuple[str, float]]:
    """Each media range with its weight, 0 to 1; what cannot be read has weight 0."""
    found = []
    for entry in accept.split(",")[:_MOST_RANGES]:
        media, *parameters = (part.strip().lower() for part in entry.split(";"))
        weights = [value for key, _, value in (part.partition("=") for part in parameters) if key.strip() == "q"]
        if media:
            found.append((media, _number(weights[0]) if weights else 1.0))
    return found


def _number(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return min(max(weight, 0.0), 1.0) if weight == weight else 0.0
