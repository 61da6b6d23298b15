"""A headless Chromium over the DevTools protocol: it draws and uses pages, and tells what they asked for."""

from __future__ import annotations

import asyncio
import atexit
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    # All windows are worked at, whichever is in front.
    *("--disable-background-timer-throttling", "--disable-renderer-backgrounding"),
    "--disable-backgrounding-occluded-windows",
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


class Connection:
    """A socket of the DevTools protocol: commands go out, answers and events come in."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
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

    async def _read(self) -> None:
        async for message in self._socket:
            event = json.loads(message.data)
            if "id" in event:
                self._answers.pop(event["id"]).set_result(event.get("result", {}))
            else:
                self.heard(event["method"], event["params"])

    def heard(self, method: str, parameters: dict[str, Any]) -> None:
        """An event has come."""


class Tab(Connection):
    """One page. ``requests`` are the addresses it asked for, ``refused`` those that its policy did not let it.

    ``errors`` are what the console shows as errors: exceptions, failed requests, breaches of the policy.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.requests: list[str] = []
        self.refused: list[str] = []
        self.errors: list[str] = []
        self._addresses: dict[str, str] = {}
        super().__init__(socket)

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
        # Enter is a character, too: with it a button is pressed.
        text = {} if modifiers else {"text": "\r"} if key == "Enter" else {} if key in _KEYS else {"text": key}
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

    def heard(self, method: str, parameters: dict[str, Any]) -> None:
        """Note requests and errors."""
        if method == "Network.requestWillBeSent":
            address = parameters["request"]["url"]
            self.requests.append(address)
            self._addresses[parameters["requestId"]] = address
        elif method == "Network.loadingFailed" and parameters.get("blockedReason") == "csp":
            address = self._addresses[parameters["requestId"]]
            self.requests.remove(address)
            self.refused.append(address)
        elif method == "Runtime.exceptionThrown":
            self.errors.append(_words(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(part.get("value", part)) for part in parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            entry = parameters["entry"]
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


class Profile:
    """A browser as somebody opens it for the first time: nothing is kept in it but by its own tabs."""

    def __init__(self, browser: Connection, context: str, address: str, stack: AsyncExitStack) -> None:
        self._browser = browser
        self._context = context
        self._address = address
        self._stack = stack

    async def tab(self) -> Tab:
        """A further tab, in a window of its own; it ends with the profile."""
        made = await self._browser.call(
            "Target.createTarget", url="about:blank", browserContextId=self._context, newWindow=True
        )
        session = await self._stack.enter_async_context(aiohttp.ClientSession())
        address = f"{self._address}/devtools/page/{made['targetId']}"
        return Tab(await self._stack.enter_async_context(session.ws_connect(address, max_msg_size=0)))


@asynccontextmanager
async def chromium_profile() -> AsyncIterator[Profile]:
    """A fresh profile, which is forgotten with the block, in the one Chromium that this process runs.

    :raises TimeoutError: it does not start.
    """
    async with asyncio.timeout(START_SECONDS):
        port, path = await _running()
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        address = f"ws://127.0.0.1:{port}"
        browser = Connection(await stack.enter_async_context(session.ws_connect(address + path, max_msg_size=0)))
        made = await browser.call("Target.createBrowserContext", disposeOnDetach=True)
        yield Profile(browser, made["browserContextId"], address, stack)


@asynccontextmanager
async def chromium_tab() -> AsyncIterator[Tab]:
    """The only tab of a fresh profile, which is forgotten with the block.

    :raises TimeoutError: Chromium does not start.
    """
    async with chromium_profile() as profile:
        yield await profile.tab()


_processes: list[tuple[subprocess.Popen[bytes], Path]] = []


async def _running() -> tuple[int, str]:
    """(port, path) of the DevTools of this process's Chromium, which is started if there is none."""
    if not _processes or _processes[-1][0].poll() is not None:
        assert CHROMIUM is not None
        folder = Path(tempfile.mkdtemp(prefix="chromium-"))
        command = (CHROMIUM, *_FLAGS, f"--user-data-dir={folder}", "about:blank")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _processes.append((process, folder))
        atexit.register(_end, process, folder)
    written = _processes[-1][1] / "DevToolsActivePort"
    while not written.exists() or len(lines := written.read_text().splitlines()) < 2:
        await asyncio.sleep(0.05)
    return int(lines[0]), lines[1]


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)
