"""A headless Chromium over the DevTools protocol: it draws and uses pages, and tells what they asked for."""

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
COVERED_SECONDS = 10.0


#: Values of the protocol's ``modifiers``.
CTRL = 2
#: Names of keys that have no character, with their codes.
_KEYS = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowUp": 38, "ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39}


class Tab:
    """One page. ``requests`` are the addresses it asked for, ``refused`` those that its policy did not let it.

    ``errors`` are what the console shows as errors: exceptions, failed requests, breaches of the policy.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.requests: list[str] = []
        self.refused: list[str] = []
        self.errors: list[str] = []
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
        """The value of a JavaScript expression in the page, or what a promise gives.

        :raises AssertionError: it throws.
        """
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, f"{expression}: {_words(found['exceptionDetails'])}"
        return found.get("result", {}).get("value")

    async def open(self, address: str, until: str) -> None:
        """Go to ``address`` and wait for the expression ``until`` to be true.

        :raises AssertionError: it does not become true.
        """
        for domain in ("Page", "Network", "Runtime", "Log", "DOM"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=address)
        await self.wait(f"document.body !== null && ({until})")

    async def wait(self, expression: str, seconds: float = DRAW_SECONDS) -> Any:
        """The value of ``expression`` once it is true.

        :raises AssertionError: it does not become true; with what there is to read on the page.
        """
        end = time.monotonic() + seconds
        while (value := await self.evaluate(expression)) in (None, False, 0, ""):  # an element comes as {}
            assert time.monotonic() < end, f"never true: {expression}\n{await self.text()}\n{self.errors}"
            await asyncio.sleep(0.05)
        return value

    # --- what people do ----------------------------------------------------------------------------------------------

    async def click(self, selector: str) -> None:
        """Click into the middle of the element that ``selector`` (or ``=text`` of a button or label) names."""
        await self.stroke(selector, [(0.5, 0.5)])

    async def stroke(self, selector: str, points: list[tuple[float, float]]) -> None:
        """Press the mouse at the first point, move it over the others, let go; points are parts of the element's box.

        :raises AssertionError: there is no such element, or something lies over it.
        """
        find = f"({_BOX})({json.dumps(selector)}, {points[0][0]}, {points[0][1]})"
        end = time.monotonic() + COVERED_SECONDS
        while "over" in (box := await self.wait(find)):  # a dialogue may be about to open, or to close
            assert time.monotonic() < end, f"{selector} is covered by {box['over']}"
            await asyncio.sleep(0.05)
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        await self._mouse("mousePressed", *places[0])
        for place in places[1:]:
            await self._mouse("mouseMoved", *place)
        await self._mouse("mouseReleased", *places[-1])

    async def _mouse(self, kind: str, x: float, y: float) -> None:
        await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    async def press(self, key: str, modifiers: int = 0) -> None:
        """Press a key and let it go."""
        code = _KEYS.get(key, ord(key.upper()[0]))
        text = {"text": key} if key not in _KEYS and not modifiers else {}
        for kind in ("keyDown", "keyUp"):
            parameters = {"key": key, "modifiers": modifiers, "windowsVirtualKeyCode": code}
            await self.call("Input.dispatchKeyEvent", type=kind, **parameters, **(text if kind == "keyDown" else {}))

    async def fill(self, selector: str, text: str) -> None:
        """Write ``text`` into a field in place of what is there, and leave the field."""
        await self.click(selector)
        await self.evaluate("document.activeElement.select()")
        await (self.call("Input.insertText", text=text) if text else self.press("Delete"))
        await self.evaluate("document.activeElement.blur()")

    async def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file in the file chooser that ``selector`` names."""
        root = await self.call("DOM.getDocument")
        node = await self.call("DOM.querySelector", nodeId=root["root"]["nodeId"], selector=selector)
        assert node.get("nodeId"), f"there is no {selector}"
        await self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node["nodeId"])

    # --- how it looks ------------------------------------------------------------------------------------------------

    async def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Give the page a size in pixels; ``phone``: with a touch screen."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        await self.call("Emulation.setDeviceMetricsOverride", **metrics)
        await self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    async def prefer(self, **features: str) -> None:
        """Set the visitor's preferences, as in ``prefer(prefers_color_scheme="dark")``."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        await self.call("Emulation.setEmulatedMedia", features=named)

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
            elif event["method"] == "Runtime.exceptionThrown":
                self.errors.append(_words(event["params"]["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "assert"):
                self.errors.append(" ".join(str(part.get("value", part)) for part in event["params"]["args"]))
            elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                entry = event["params"]["entry"]
                self.errors.append(f"{entry['text']} {entry.get('url', '')}".strip())


#: The box of an element, scrolled into sight; ``over`` is what lies over the point (x, y) of it.
_BOX = """(selector, x, y) => {
  const named = () => [...document.querySelectorAll("button, label, summary")]
    .find((one) => (one.ariaLabel ?? one.innerText).trim().split("\\n")[0] === selector.slice(1));
  const found = selector.startsWith("=") ? named() : document.querySelector(selector);
  if (!found) return null;
  found.scrollIntoView({ block: "nearest", inline: "nearest" });
  const box = found.getBoundingClientRect();
  const top = document.elementFromPoint(box.x + x * box.width, box.y + y * box.height);
  const free = top && (found.contains(top) || top.contains(found) || found.control === top);
  const over = free ? {} : { over: top?.outerHTML ?? "nothing" };
  return { x: box.x, y: box.y, width: box.width, height: box.height, ...over };
}"""


def _words(details: dict[str, Any]) -> str:
    """What an exception says."""
    return str(details.get("exception", {}).get("description", details["text"]))


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
