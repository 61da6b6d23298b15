"""What goes wrong around the page: files of odd kinds, a full disk, a server that leaves, several tabs."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image
from tests.chromium import Tab, chromium_profile
from tests.web.conftest import (
    NOTICE,
    PICTURE,
    PROBLEM,
    READY,
    SIGN_IN,
    STORED,
    draw,
    draw_long,
    drop,
    needs_chromium,
    on_page,
    reopened,
    served,
)

pytestmark = needs_chromium

#: An SVG without a size, as drawing programs write them.
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 1"><path d="M0 0h1v1H0z" fill="red"/></svg>'
SOURCE = "[aria-label='Source picture'] input[type=file]"
PLACED = "document.querySelector('.well img')?.naturalWidth"


# --- files -----------------------------------------------------------------------------------------------------------


def test_files_that_are_no_pictures_are_refused_in_words(page_server: str, tmp_path: Path) -> None:
    files = {"empty.png": b"", "photo.heic": b"\0\0\0\x18ftypheic" + bytes(200), "notes.png": b"Buy milk.\n"}

    async def use(tab: Tab) -> None:
        await tab.click("=From a picture")
        for name, content in files.items():
            path = tmp_path / name
            path.write_bytes(content)
            await tab.choose_file(SOURCE, path)
            said = "This file is empty." if not content else "cannot read this file as a picture"
            await tab.wait(f"({NOTICE}).includes('{said}')")
            assert await tab.evaluate("document.querySelector('.well img')") is None
        await drop(tab, "[data-drop=reuse]", path)
        await tab.wait(f"({PROBLEM}).includes('not a picture that the server can read')")
        tab.errors.clear()  # the browser names the request that was refused

    on_page(page_server, use)


def test_a_picture_that_only_the_browser_reads_is_drawn_from(page_server: str, tmp_path: Path) -> None:
    path = tmp_path / "drawing.svg"
    path.write_text(SVG)

    async def use(tab: Tab) -> None:
        await tab.click("=From a picture")
        await tab.choose_file(SOURCE, path)
        await tab.wait(PLACED)
        assert (await tab.evaluate("document.querySelector('.well img').src")).startswith("data:image/png")
        await draw(tab, "a ring")
        await tab.wait(PICTURE)

    on_page(page_server, use)


def test_an_enormous_picture_is_sent_smaller(page_server: str, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (8192, 64), 1).save(path)

    async def use(tab: Tab) -> None:
        await tab.click("=From a picture")
        await tab.choose_file(SOURCE, path)
        await tab.wait(f"{PLACED} === 4096")
        sent = await tab.evaluate("document.querySelector('.well img').src")
        with Image.open(io.BytesIO(base64.b64decode(sent.partition(",")[2]))) as picture:
            assert picture.size == (4096, 32)

    on_page(page_server, use)


# --- what the browser keeps ------------------------------------------------------------------------------------------

FULL = """
    const full = () => { throw new DOMException("no space", "QuotaExceededError"); };
    Storage.prototype.setItem = full;
    IDBObjectStore.prototype.put = full;
"""
FORBIDDEN = """
    for (const name of ["localStorage", "sessionStorage", "indexedDB"])
        Object.defineProperty(window, name, { get() { throw new DOMException("forbidden", "SecurityError"); } });
"""


@pytest.mark.parametrize("how", ["full", "forbidden"])
def test_it_draws_where_the_browser_keeps_nothing(page_server: str, how: str) -> None:
    async def use(tab: Tab) -> None:
        if how == "full":
            await tab.wait(f"({NOTICE}).includes('no space left')")
        await draw(tab, "a ring")
        await tab.wait(PICTURE)
        assert "a ring" in await tab.text()

    on_page(page_server, use, first=FULL if how == "full" else FORBIDDEN)


def test_an_enormous_prompt_is_refused_in_words_and_stays(page_server: str) -> None:
    async def use(tab: Tab) -> None:
        await draw(tab, "ring, " * 10_000)
        await tab.wait(f"({PROBLEM}).length > 10")
        assert await tab.evaluate("document.querySelector('[data-prompt]').value.length") == 60_000
        assert await tab.evaluate("document.querySelector('.main').getBoundingClientRect().bottom <= innerHeight")
        tab.errors.clear()  # the browser names the request that was refused

    on_page(page_server, use)


# --- the server ------------------------------------------------------------------------------------------------------


def test_a_server_that_leaves_and_comes_back_with_another_key(page_data: Path) -> None:
    """The page says that it is gone, finds it again, asks for the new key, and tells what became of the job."""

    async def use(tab: Tab, start: Iterator[str]) -> None:
        await tab.open(next(start), SIGN_IN)
        await tab.fill("=Key", "key-1")
        await tab.click(".sign-in .main")
        await tab.wait(READY)
        await draw_long(tab, "a lost ring")
        next(start)
        await tab.wait("document.querySelector('.connection').innerText.includes('Connection lost')")
        next(start)
        await tab.wait(SIGN_IN)
        await tab.fill("=Key", "key-2")
        await tab.click(".sign-in .main")
        await tab.wait(f"({PROBLEM}).includes('does not know this job any more')")
        assert await tab.evaluate("document.querySelector('.connection').innerText") == ""
        await tab.fill("=Batches", "1")
        await draw(tab, "a ring", steps=2)
        await tab.wait(PICTURE)

    def start() -> Generator[str, None, None]:
        with served(page_data, "--api-key", "key-1") as url:
            yield f"{url}/"
        yield ""
        with served(page_data, "--api-key", "key-2", port=int(url.rpartition(":")[2])):
            yield ""

    async def look() -> None:
        with closing(start()) as servers:
            async with chromium_profile() as profile:
                await use(await profile.tab(), servers)

    asyncio.run(look())


#: Requests to addresses that ``held`` fits stay away until it does not.
HELD = """
    window.held = /sdapi/;
    const real = window.fetch;
    window.fetch = async (address, sent) => {
        while (held?.test(String(address))) await new Promise((go) => setTimeout(go, 20));
        return real(address, sent);
    };
"""


def test_a_slow_server_is_waited_for_in_words(page_server: str) -> None:
    """Nothing is called missing before the lists have come."""

    async def use(tab: Tab) -> None:
        assert "Euler a" in await tab.text()
        assert "not here" not in await tab.text()
        await tab.evaluate("held = /jobs$/")
        await tab.wait(READY)
        await draw(tab, "a ring", steps=2)
        await tab.wait("document.querySelector('.main').innerText.startsWith('Sending')")
        await tab.evaluate("held = /images/")
        await tab.wait("document.querySelector('.drawing')?.innerText.includes('Fetching')")
        await tab.evaluate("held = null")
        await tab.wait(PICTURE)

    on_page(page_server, use, until="document.querySelector('.main')", first=HELD)


# --- two tabs --------------------------------------------------------------------------------------------------------


def test_two_tabs_have_forms_of_their_own_and_share_what_is_drawn(page_server: str) -> None:
    async def look() -> None:
        async with chromium_profile() as profile:
            one, other = await profile.tab(), await profile.tab()
            for tab in (one, other):
                await tab.open(f"{page_server}/", READY)
            await one.fill("=Prompt", "the first tab")
            await other.fill("=Prompt", "the second tab")
            await reopened(one)
            assert await one.evaluate("document.querySelector('[data-prompt]').value") == "the first tab"
            await draw(one)
            await draw(other)
            for tab in (one, other):
                await tab.wait("document.querySelectorAll('.strip li').length === 2")
                assert tab.errors == []
            assert (await other.evaluate(STORED))["prompt"] in ("the first tab", "the second tab")

    asyncio.run(look())
