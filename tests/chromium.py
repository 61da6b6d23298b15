"""A headless Chromium that tells which addresses a page asked for, over the DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    # Chromium asks its maker for this and that at every start; no name but the server's address resolves.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    *("--remote-debugging-port=0", "--window-size=1100,900"),
)
START_SECONDS = 60.0
DRAW_SECONDS = 60.0


class Tab:
    """One page. ``requests`` are the addresses it asked for, ``refused`` those that its policy did not let it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.requests: list[str] = []
        self.refused: list[str] = []
        self._addresses: dict[str, str] = {}
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.ensure_future(self._read())

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a DevTools command."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        return await asyncio.wait_for(self._answers[number], DRAW_SECONDS)

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found.get("result", {}).get("value")

    async def open(self, address: str, until: str) -> None:
        """Go to ``address`` and wait for the expression ``until`` to be true.

        :raises AssertionError: it does not become true.
        """
        for domain in ("Page", "Network"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=address)
        end = time.monotonic() + DRAW_SECONDS
        while not await self.evaluate(until):
            assert time.monotonic() < end, f"{address} is not drawn: {await self.text()}"
            await asyncio.sleep(0.1)

    async def text(self) -> str:
        """What there is to read on the page."""
        return str(await self.evaluate("document.body.innerText"))

    async def _read(self) -> None:
        async for message in self._socket:
            event = json.loads(message.data)
            if "id" in event:
                self._answers.pop(event["id"]).set_result(event.get("result", {}))
            elif event["method"] == "Network.requestWillBeSent":
                address = event["params"]["request"]["url"]
                self.requests.append(address)
                self._addresses[event["params"]["requestId"]] = address
            elif event["method"] == "Network.loadingFailed" and event["params"].get("blockedReason") == "csp":
                address = self._addresses[event["params"]["requestId"]]
                self.requests.remove(address)
                self.refused.append(address)


@asynccontextmanager
async def chromium_tab() -> AsyncIterator[Tab]:
    """The only tab of a fresh Chromium, which ends with the block.

    :raises TimeoutError: it does not start.
    """
    assert CHROMIUM is not None
    profile = tempfile.mkdtemp(prefix="chromium-")
    process = await asyncio.create_subprocess_exec(
        *(CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(START_SECONDS):
            port = await _port(Path(profile))
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as reply:
                pages = [target for target in await reply.json() if target["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                yield Tab(socket)
    finally:
        process.kill()
        await process.wait()
        shutil.rmtree(profile, ignore_errors=True)


async def _port(profile: Path) -> int:
    """Chromium's port for DevTools, which it writes down once it listens."""
    written = profile / "DevToolsActivePort"
    while not written.exists() or not written.read_text():
        await asyncio.sleep(0.05)
    return int(written.read_text().splitlines()[0])
