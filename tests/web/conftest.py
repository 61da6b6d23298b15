"""A server with the page, on small real models, and what tests do with the page again and again."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from PIL import Image
from tests.chromium import CHROMIUM, CTRL, Tab, chromium_tab
from tests.reference_server import listening

from latentd.testing import tiny_models

T = TypeVar("T")

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")

#: The page has read the server's lists.
READY = "document.querySelectorAll('[aria-label=Sampling] option').length > 20"
PICTURE = "document.querySelector('[data-picture]')"
PREVIEW = "document.querySelector('[data-preview]')"


@pytest.fixture(scope="session")
def page_data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of this suite's own, with a preview for every step, a style, and a LoRA that fits no model."""
    import torch

    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(tiny_data / "models", folder / "models")
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_v"
    network = {f"{layer}.lora_down.weight": torch.ones(4, 48), f"{layer}.lora_up.weight": torch.ones(80, 4)}
    tiny_models.write(folder / "models" / "Lora" / "misfit.safetensors", network)
    (folder / "styles.csv").write_text('name,prompt,negative_prompt\noil,"{prompt}, in oil",photograph\n')
    (folder / "config.json").write_text(json.dumps({"show_progress_every_n_steps": 1}))
    return folder


@pytest.fixture(scope="session")
def page_server(page_data: Path) -> Iterator[str]:
    """The address of a server with the page."""
    with listening(page_data) as url:
        yield url


def on_page(address: str, use: Callable[[Tab], Awaitable[T]], *, until: str = READY) -> T:
    """What ``use`` gives, called with the page at ``address`` in a fresh browser.

    :raises AssertionError: the console shows an error, or the page asks another host for anything.
    """

    async def look() -> T:
        async with chromium_tab() as tab:
            await tab.resize(1280, 900)
            await tab.open(address, until)
            result = await use(tab)
            host = address.split("/")[2]
            assert [one for one in tab.requests if not one.startswith((f"http://{host}/", "data:", "blob:"))] == []
            assert tab.refused == []
            assert tab.errors == []
            return result

    return asyncio.run(look())


async def draw(tab: Tab, prompt: str | None = None, *, steps: int = 4, size: int = 64) -> None:
    """Fill the form and hand it in by the keyboard.

    :param prompt: None leaves it as it is.
    """
    if prompt is not None:
        await tab.fill("=Prompt", prompt)
    for label, value in ("Steps", steps), ("Width", size), ("Height", size):
        await tab.fill(f"={label}", str(value))
    await tab.press("Enter", CTRL)


async def choose(tab: Tab, label: str, value: str) -> None:
    """Choose an entry of a list by the beginning of its value."""
    await tab.evaluate(f"""(() => {{
        const named = [...document.querySelectorAll("label")].find((one) => one.innerText === {json.dumps(label)});
        const entry = [...named.control.options].find((one) => one.value.startsWith({json.dumps(value)}));
        named.control.value = entry.value;
        named.control.dispatchEvent(new Event("change", {{ bubbles: true }}));
    }})()""")


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


async def drop(tab: Tab, selector: str, path: Path) -> None:
    """Drag a file from outside over the page, and let it go over an element that shows itself then."""
    data = base64.b64encode(path.read_bytes()).decode()
    await tab.evaluate(f"""(() => {{
        const bytes = Uint8Array.from(atob({json.dumps(data)}), (one) => one.charCodeAt(0));
        const carried = new DataTransfer();
        carried.items.add(new File([bytes], {json.dumps(path.name)}, {{ type: "image/png" }}));
        window.dragged = (target, kind) => target.dispatchEvent(
            new DragEvent(kind, {{ bubbles: true, cancelable: true, dataTransfer: carried }}));
        dragged(document.querySelector(".stage"), "dragenter");
    }})()""")
    await tab.wait(f"document.querySelector({json.dumps(selector)})")
    await tab.evaluate(f"dragged(document.querySelector({json.dumps(selector)}), 'drop')")
