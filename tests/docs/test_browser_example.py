"""The page in "Use the server from a page of your own", in a browser: another origin, a key, previews, errors."""

from __future__ import annotations

import asyncio
import functools
import http.server
import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.chromium import CHROMIUM, Tab, chromium_tab
from tests.reference_server import listening

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/how-to/from-a-browser.md"
VUE = ROOT / "tests/clients/node/node_modules/vue/dist/vue.esm-browser.prod.js"
PICTURE = "document.querySelector('img')?.naturalWidth"

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)"),
    pytest.mark.skipif(
        not VUE.exists(),
        reason="needs what `npm ci --prefix tests/clients/node` installs (`make env` does where npm is)",
    ),
]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the suite's output is pytest's."""


@contextmanager
def site(folder: Path) -> Iterator[str]:
    """The address of a server of the files in ``folder``, as the guide's ``python3 -m http.server`` is one."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def folder(tmp_path: Path, tiny_data: Path) -> Path:
    """A data folder in which there is a preview of every step."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "models").symlink_to(tiny_data / "models")
    (data / "config.json").write_text(json.dumps({"show_progress_every_n_steps": 1}))
    return data


def example(server: str) -> str:
    """The guide's page, for ``server``, with Vue from this machine and a picture that is drawn quickly."""
    (page,) = re.findall(r"```html\n<!-- index\.html -->\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    for old, new in (
        ("http://127.0.0.1:7860", server),
        ("https://unpkg.com/vue@3/dist/vue.esm-browser.prod.js", "./vue.js"),
        ("steps: 20", "steps: 40, width: 64, height: 64"),
    ):
        assert page.count(old) == 1, old
        page = page.replace(old, new)
    return page


def test_it_draws_with_previews_and_tells_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    shutil.copy(VUE, pages / "vue.js")

    async def use(tab: Tab, origin: str) -> None:
        await tab.open(f"{origin}/", "document.querySelector('form')")
        await tab.fill("input", "a red ring")
        await tab.click("=Draw")
        await tab.wait("document.querySelector('progress')?.value > 0")
        await tab.wait(f"document.querySelector('progress') && {PICTURE} > 0")
        await tab.wait(f"!document.querySelector('progress') && {PICTURE} === 64")
        assert tab.errors == []
        (pages / "index.html").write_text(example(server).replace("my-key", "another"), encoding="utf-8")
        await tab.open(f"{origin}/", "document.querySelector('form')")
        await tab.click("=Draw")
        await tab.wait("document.querySelector('[role=alert]')?.innerText === 'Incorrect username or password'")

    async def look(origin: str) -> None:
        async with chromium_tab() as tab:
            await use(tab, origin)

    with (
        site(pages) as origin,
        listening(folder, "--api-key", "my-key", "--cors-allow-origins", origin) as server,
    ):
        (pages / "index.html").write_text(example(server), encoding="utf-8")
        asyncio.run(look(origin))
