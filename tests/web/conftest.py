"""A server with the page, on small real models, and what tests do with the page again and again."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import io
import json
import shutil
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import pytest
import uvicorn
from PIL import Image
from tests.chromium import CHROMIUM, CTRL, Tab, chromium_tab

from latentd.server.app import create_app
from latentd.settings import parse_settings
from latentd.testing import tiny_models

T = TypeVar("T")

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")

#: The page has read the server's lists.
READY = "document.querySelectorAll('[aria-label=Sampling] option').length > 20"
PICTURE = "document.querySelector('[data-picture]')"
PREVIEW = "document.querySelector('[data-preview]')"
#: What the page keeps of the form, and what it says is wrong.
STORED = "JSON.parse(Object.entries(localStorage).find(([key]) => key.startsWith('latentd:settings'))[1])"
PROBLEM = "document.querySelector('.problem')?.innerText ?? ''"
#: The job that is shown runs and can be stopped.
RUNNING = "[...document.querySelectorAll('.progress button')].some((one) => one.innerText === 'Stop here')"
NOTICE = "document.querySelector('.notice')?.innerText ?? ''"
SIGN_IN = "document.querySelector('.sign-in[open]')"
END_SECONDS = 30.0


def control_files() -> ModuleType:
    """What the tests of ControlNet make models with."""
    path = Path(__file__).parents[2] / "plugins/controlnet/tests/control_files.py"
    spec = importlib.util.spec_from_file_location("control_files", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def page_data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of this suite's own: previews of each step, a style, ControlNet ``edges``, an unfit LoRA."""
    import torch
    from safetensors.torch import load_file

    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(tiny_data / "models", folder / "models")
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_v"
    network = {f"{layer}.lora_down.weight": torch.ones(4, 48), f"{layer}.lora_up.weight": torch.ones(80, 4)}
    tiny_models.write(folder / "models" / "Lora" / "misfit.safetensors", network)
    control = control_files()
    encoder = control.base_encoder(load_file(folder / "models" / "Stable-diffusion" / "base.safetensors"))
    control.write(folder / "models" / "ControlNet" / "edges.safetensors", control.controlnet(encoder))
    (folder / "styles.csv").write_text('name,prompt,negative_prompt\noil,"{prompt}, in oil",photograph\n')
    (folder / "config.json").write_text(json.dumps({"show_progress_every_n_steps": 1}))
    return folder


@contextmanager
def served(data: Path, *flags: str, port: int = 0) -> Iterator[str]:
    """The address of a server within this process, which starts sooner than one of its own; it ends with the block."""
    listener = socket.create_server(("127.0.0.1", port))
    app = create_app(parse_settings(["--data-dir", str(data), *flags], environment={}))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=0))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(END_SECONDS)
        listener.close()
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def page_server(page_data: Path) -> Iterator[str]:
    """The address of a server with the page."""
    with served(page_data) as url:
        yield url


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of 64x64 with left half red and right half blue."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    picture = Image.new("RGB", (64, 64), (200, 0, 0))
    picture.paste((0, 0, 200), (32, 0, 64, 64))
    picture.save(path)
    return path


def on_page(address: str, use: Callable[[Tab], Awaitable[T]], *, until: str = READY, first: str = "") -> T:
    """What ``use`` gives, called with the page at ``address`` in a fresh browser.

    :param first: JavaScript that runs in each document before anything else.
    :raises AssertionError: the console shows an error, or the page asks another host for anything.
    """

    async def look() -> T:
        async with chromium_tab() as tab:
            await tab.resize(1280, 900)
            if first:
                await tab.call("Page.addScriptToEvaluateOnNewDocument", source=first)
            await tab.open(address, until)
            result = await use(tab)
            host = address.split("/")[2]
            assert [one for one in tab.requests if not one.startswith((f"http://{host}/", "data:", "blob:"))] == []
            assert tab.refused == []
            assert tab.errors == []
            return result

    return asyncio.run(look())


async def draw_long(tab: Tab, prompt: str) -> None:
    """Hand in a job that runs until it is stopped, as far as a test is concerned, and wait for its first preview."""
    await tab.fill("=Batches", "50")
    await draw(tab, prompt, steps=150)
    await tab.wait(PREVIEW)


async def draw(tab: Tab, prompt: str | None = None, *, steps: int = 4, size: int = 64) -> None:
    """Fill the form and hand it in by the keyboard.

    :param prompt: None leaves it as it is.
    """
    if prompt is not None:
        await tab.fill("=Prompt", prompt)
    for label, value in ("Steps", steps), ("Width", size), ("Height", size):
        await tab.fill(f"={label}", str(value))
    await tab.press("Enter", CTRL)


async def field(tab: Tab, label: str, group: str = "Compose") -> str:
    """The selector of the field with this label, in the form or a part of it."""
    name = await tab.wait(f"""[...document.querySelectorAll({json.dumps(f"[aria-label='{group}'] label")})]
        .find((one) => one.innerText === {json.dumps(label)})?.control.id""")
    return f"[id='{name}']"


async def choose(tab: Tab, label: str, value: str, group: str = "Compose") -> None:
    """Choose an entry of a list by the beginning of its value."""
    selector = await field(tab, label, group)
    await tab.evaluate(f"""(() => {{
        const list = document.querySelector({json.dumps(selector)});
        list.value = [...list.options].find((one) => one.value.startsWith({json.dumps(value)})).value;
        list.dispatchEvent(new Event("change", {{ bubbles: true }}));
    }})()""")


async def reopened(tab: Tab) -> None:
    """Load the page again."""
    await tab.evaluate("window.old = true")
    await tab.call("Page.reload")
    await tab.wait(f"!window.old && document.body !== null && ({READY})")


async def picture_of(tab: Tab, selector: str = "[data-picture]") -> Image.Image:
    """The pixels of a picture on the page."""
    code = f"""(async () => {{
        const image = document.querySelector({json.dumps(selector)});
        await image.decode();
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        canvas.getContext("2d").drawImage(image, 0, 0);
        return canvas.toDataURL("image/png").split(",")[1];
    }})()"""
    return Image.open(io.BytesIO(base64.b64decode(await tab.evaluate(code)))).convert("RGB")


async def drop(tab: Tab, selector: str, path: Path, kind: str = "image/png") -> None:
    """Drag a file of a media type from outside over the page, and let it go over an element that shows itself then."""
    data = base64.b64encode(path.read_bytes()).decode()
    await tab.evaluate(f"""(() => {{
        const bytes = Uint8Array.from(atob({json.dumps(data)}), (one) => one.charCodeAt(0));
        const carried = new DataTransfer();
        carried.items.add(new File([bytes], {json.dumps(path.name)}, {{ type: {json.dumps(kind)} }}));
        window.dragged = (target, kind) => target.dispatchEvent(
            new DragEvent(kind, {{ bubbles: true, cancelable: true, dataTransfer: carried }}));
        dragged(document.querySelector(".stage"), "dragenter");
    }})()""")
    await tab.wait(f"document.querySelector({json.dumps(selector)})")
    await tab.evaluate(f"dragged(document.querySelector({json.dumps(selector)}), 'drop')")
