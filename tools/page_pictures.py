"""Takes the documentation's pictures of the page anew, from a server with the model that the repository brings.

usage: python tools/page_pictures.py [--views DIR]

Needs Chromium and the plugins web, tinymodel and controlnet. With --views: instead, every view at both widths and in
both colours, to be looked at after the page has been changed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from PIL import Image, ImageDraw
from server_process import server_process

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.chromium import CTRL, Tab, chromium_tab  # noqa: E402 - a tool of the repository, run from anywhere
from tests.web.conftest import PICTURE, PREVIEW, READY, RUNNING, choose, draw, field  # noqa: E402

PICTURES = ROOT / "docs/how-to/pictures"
WIDE, NARROW = (1440, 900), (390, 844)
GAP = 24
STYLES = 'name,prompt,negative_prompt\nsunset,"{prompt}, sunset background",\nnight,"{prompt}, night background",\n'
#: What is drawn, with the seeds.
PROMPTS = {
    "a cactus, pink background": 4,
    "a cat, green background": 4,
    "a rocket, night background": 2,
    "a red apple, blue background": 4,
    "a sunflower, blue background": 6,
}
EDGES = "latentd-tiny-canny"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=Path)
    views: Path | None = parser.parse_args().views
    with tempfile.TemporaryDirectory(prefix="latentd-page-") as name:
        data = Path(name)
        (data / "styles.csv").write_text(STYLES)
        (data / "config.json").write_text(json.dumps({"show_progress_every_n_steps": 2}))
        with server_process("--data-dir", name) as server:
            asyncio.run(every_view(f"{server.url}/", views) if views else documentation(f"{server.url}/"))
    return 0


async def documentation(address: str) -> None:
    """The pictures that docs and README show."""
    async with drawn(address, WIDE, "light") as tab:
        save(await seen(tab), PICTURES / "web-wide.jpg")
    async with drawn(address, NARROW, "dark") as tab:
        picture = await seen(tab)
        await as_source(tab)
        source = await seen(tab)
        await two_units(tab)
        save(side_by_side(source, await seen(tab), picture), PICTURES / "web-narrow.jpg")


async def every_view(address: str, folder: Path) -> None:
    """Each view as PNG, named by what is seen, width and colours."""
    folder.mkdir(parents=True, exist_ok=True)
    for width, size in ("wide", WIDE), ("narrow", NARROW):
        for colours in "light", "dark":
            async for name, picture in views(address, size, colours):
                picture.save(folder / f"{width}-{colours}-{name}.png")


async def views(address: str, size: tuple[int, int], colours: str) -> AsyncIterator[tuple[str, Image.Image]]:
    """Every view, with its name."""
    async with chromium_tab() as tab:
        await opened(tab, address, size, colours)
        yield "1-empty", await seen(tab)
    async with drawn(address, size, colours) as tab:
        yield "2-picture", await seen(tab)
        await tab.evaluate("document.querySelector('.infotext summary').click()")
        yield "3-infotext", await seen(tab)
        await as_source(tab)
        yield "4-source", await seen(tab)
        await two_units(tab)
        yield "5-units", await seen(tab)
        await tab.evaluate("document.querySelectorAll('.compose details').forEach((one) => (one.open = true))")
        await tab.evaluate("window.form = document.querySelector('.scroll'); true")
        for number, part in enumerate(("first", "middle", "last")):
            await tab.evaluate(f"form.scrollTop = form.scrollHeight * {number} / 3")
            yield f"6-everything-{part}", await seen(tab)
        await tab.click("=Edit the mask")
        await tab.wait("document.querySelector('dialog canvas')")
        yield "7-mask", await seen(tab)
        await tab.press("Escape")
        await tab.click("=From text")
        await draw(tab, "a red apple <lora:nowhere:1>", steps=150, size=512)
        await tab.wait(PREVIEW)
        await tab.evaluate("document.querySelector('.tabs label')?.click()")
        await tab.press("Enter", CTRL)
        await tab.wait("document.querySelector('.queue')")
        yield "8-drawing", await seen(tab)
        await tab.press("Escape")
        await tab.wait(f"!document.querySelector('.queue') && {RUNNING}")
        await tab.press("Escape")
        await tab.wait(f"{PICTURE} && !document.querySelector('.queue')")
        yield "9-warning", await seen(tab)
        await tab.evaluate("document.dispatchEvent(new KeyboardEvent('keydown', { key: '?', bubbles: true }))")
        yield "10-keyboard", await seen(tab)


@asynccontextmanager
async def drawn(address: str, size: tuple[int, int], colours: str) -> AsyncIterator[Tab]:
    """The page with all of :data:`PROMPTS` drawn."""
    async with chromium_tab() as tab:
        await opened(tab, address, size, colours)
        await tab.fill("=CFG scale", "5")
        for number, (prompt, seed) in enumerate(PROMPTS.items(), 1):
            await tab.evaluate("document.querySelector('.tabs label').click()")
            await tab.fill("=Seed", str(seed))
            await draw(tab, prompt, steps=20, size=256)
            await tab.wait(f"{PICTURE} && document.querySelectorAll('.strip li').length === {number}")
        await tab.evaluate("document.querySelector('.scroll').scrollTop = 0")
        yield tab


async def opened(tab: Tab, address: str, size: tuple[int, int], colours: str) -> None:
    await tab.resize(*size, phone=size == NARROW)
    await tab.prefer(prefers_color_scheme=colours, prefers_reduced_motion="reduce")
    await tab.open(address, READY)


async def as_source(tab: Tab) -> None:
    """The picture becomes the source, with a mask over its middle."""
    await tab.click("=Inpaint")
    await tab.wait("document.querySelector('dialog canvas')")
    await tab.stroke("dialog canvas", [(0.35, 0.4), (0.5, 0.35), (0.65, 0.4)])
    await tab.click("=Use this mask")
    await tab.wait("document.querySelector('.well .mask')")
    await tab.evaluate("document.querySelector('.scroll').scrollTop = 0")


async def two_units(tab: Tab) -> None:
    """Two units of ControlNet, each with a picture of its own; the first is folded."""
    await tab.click("=ControlNet")
    for number, weight in enumerate(("0.8", "0.5")):
        unit = f"Unit {number}"
        if number:
            await tab.click("=Fields of unit 0")
            await tab.click("=Add another unit")
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            house(number).save(file.name)
            await tab.choose_file(f"[aria-label='{unit}'] input[type=file]", Path(file.name))
            await tab.wait(f"document.querySelector(\"[aria-label='{unit}'] img\")")
        await choose(tab, "Preprocessor", "canny", unit)
        await choose(tab, "Control model", EDGES, unit)
        await tab.fill(await field(tab, "Weight", unit), weight)
    await tab.evaluate("document.querySelector('.units').closest('details').scrollIntoView()")


def house(number: int) -> Image.Image:
    """A picture with edges to find."""
    picture = Image.new("RGB", (256, 256), ("#20242c", "#dfe6ee")[number])
    pen = ImageDraw.Draw(picture)
    pen.polygon([(40, 130), (128, 48), (216, 130)], "#b3543a")
    pen.rectangle((60, 130, 196, 220), "#e9dcc3")
    pen.rectangle((112, 160, 144, 220), "#6b4a35")
    return picture


async def seen(tab: Tab) -> Image.Image:
    """What the tab shows, once nothing moves, no field has the focus and the pointer is out of the way."""
    await tab.evaluate("document.activeElement?.blur()")
    await tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    await tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
    taken = await tab.call("Page.captureScreenshot", format="png")
    return Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")


def side_by_side(*pictures: Image.Image) -> Image.Image:
    """Pictures of one height beside one another."""
    width = sum(one.width for one in pictures) + GAP * (len(pictures) - 1)
    whole = Image.new("RGB", (width, pictures[0].height), "white")
    left = 0
    for one in pictures:
        whole.paste(one, (left, 0))
        left += one.width + GAP
    return whole


def save(picture: Image.Image, path: Path) -> None:
    """Write a JPEG in which small text is still sharp."""
    picture.save(path, quality=88, optimize=True, progressive=True, subsampling=0)
    print(f"{path.relative_to(ROOT)}: {picture.width}x{picture.height}, {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    sys.exit(main())
