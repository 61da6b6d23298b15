"""The pages in a real browser: each is drawn whole, and asks nobody but the server for anything."""

from __future__ import annotations

import asyncio

import pytest
from tests.chromium import CHROMIUM, Tab, chromium_tab

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")

#: What is on a page once it is drawn, as JavaScript.
SWAGGER = "document.querySelectorAll('.opblock-summary-path').length > 40"
REDOC = "document.querySelectorAll('[data-section-id^=\"tag/\"]').length > 40"
FRONT = "document.readyState == 'complete' && document.querySelectorAll('pre').length > 0"


def opened(address: str, until: str) -> tuple[Tab, str]:
    """A page that has been drawn, and its text."""

    async def look() -> tuple[Tab, str]:
        async with chromium_tab() as tab:
            await tab.open(address, until)
            return tab, await tab.text()

    return asyncio.run(look())


def foreign(tab: Tab, server: str) -> list[str]:
    return [address for address in tab.requests if not address.startswith((f"{server}/", "data:", "blob:"))]


def test_the_first_page(server: str) -> None:
    tab, text = opened(f"{server}/", FRONT)
    assert "empty.safetensors" in text
    assert tab.requests == [f"{server}/"]
    assert tab.refused == []


def test_swagger_ui(server: str) -> None:
    tab, text = opened(f"{server}/docs", SWAGGER)
    assert "/sdapi/v1/txt2img" in text
    assert "Make pictures from a text" in text
    assert f"{server}/openapi.json" in tab.requests
    assert foreign(tab, server) == []
    assert tab.refused == []


def test_redoc(server: str) -> None:
    tab, text = opened(f"{server}/redoc", REDOC)
    assert "Make pictures from a text" in text
    assert f"{server}/openapi.json" in tab.requests
    assert foreign(tab, server) == []
    # ReDoc's maker has a picture at the foot of the menu, which the policy keeps out.
    assert tab.refused in ([], ["https://cdn.redoc.ly/redoc/logo-mini.svg"])


def test_a_request_to_another_host_would_be_seen(server: str) -> None:
    async def look() -> Tab:
        async with chromium_tab() as tab:
            await tab.open("about:blank", "true")
            await tab.evaluate("new Image().src = 'http://a.example/'")
            async with asyncio.timeout(30):
                while not tab.requests:
                    await asyncio.sleep(0.05)
            return tab

    assert foreign(asyncio.run(look()), server) == ["http://a.example/"]
