"""Which representation an ``Accept`` header asks for."""

from __future__ import annotations

import pytest

from latentd.server.accept_header import preferred_picture

PICTURES = ("image/png", "image/jpeg", "image/webp")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", None),
        ("*/*", None),
        ("application/json", None),
        ("application/json, text/plain, */*", None),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", "image/webp"),
        ("image/png", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("image/*", "image/png"),
        ("image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", "image/webp"),
        ("image/png, application/json", None),
        ("application/json, image/png", None),
        ("image/png, */*", None),
        ("image/png;q=0.5, application/json;q=0.4", "image/png"),
        ("image/png;q=0.4, application/json;q=0.5", None),
        ("application/json;q=0.9, image/webp", "image/webp"),
        ("application/*;q=0.9, image/jpeg; q=0.8", None),
        ("image/png;q=0, image/*", "image/jpeg"),
        ("image/png;q=0", None),
        ("image/jpeg;q=0.8, image/webp;q=0.9", "image/webp"),
        ("image/jpeg, image/png", "image/jpeg"),
        ("image/png;q=abc, application/json;q=0.1", None),
        ("image/png;q=nan", None),
        ("*/*;q=0.1, image/png;q=1.5", "image/png"),
        ("text/html", None),
        (";;,,;q=1", None),
    ],
)
def test_json_unless_a_picture_is_clearly_preferred(accept: str, wanted: str | None) -> None:
    assert preferred_picture(accept, PICTURES) == wanted
