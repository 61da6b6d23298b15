"""ControlNet's units on the page: several at once, from the form to the infotext and back."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.request import urlretrieve

from tests.chromium import Tab
from tests.web.conftest import (
    NOTICE,
    PICTURE,
    STORED,
    choose,
    draw,
    drop,
    field,
    needs_chromium,
    on_page,
    reopened,
)

pytestmark = needs_chromium

INFOTEXT = "document.querySelector('.infotext pre').textContent"
UNITS = "document.querySelectorAll('.unit').length"
MODEL = "edges"


def well(unit: int) -> str:
    return f"[aria-label='Unit {unit}'] .well"


async def give(tab: Tab, unit: int, picture: Path) -> None:
    """Choose a picture for a unit, which is on with that."""
    await tab.choose_file(f"{well(unit)} input", picture)
    await tab.wait(f'document.querySelector("{well(unit)} img")')


async def canny(tab: Tab, unit: int) -> None:
    """Have a unit find edges."""
    await choose(tab, "Preprocessor", "canny", f"Unit {unit}")
    await choose(tab, "Control model", MODEL, f"Unit {unit}")


async def set_number(tab: Tab, unit: int, label: str, value: float) -> None:
    await tab.fill(await field(tab, label, f"Unit {unit}"), str(value))


async def units(tab: Tab) -> list[tuple[object, ...]]:
    """What the page keeps of each unit."""
    names = ("enabled", "module", "weight", "start", "end", "pixelPerfect", "thresholdA")
    return [tuple(unit[name] for name in names) for unit in (await tab.evaluate(STORED))["units"]]


def test_two_units_control_a_picture_and_come_back_from_it(page_server: str, photo: Path, tmp_path: Path) -> None:
    saved = tmp_path / "drawn.png"
    told = [(True, "canny", 0.8, 0, 1, True, 100), (True, "canny", 0.5, 0.25, 0.75, True, 60)]

    async def use(tab: Tab) -> None:
        await tab.click("=ControlNet")
        await give(tab, 0, photo)
        await canny(tab, 0)
        await set_number(tab, 0, "Weight", 0.8)
        await tab.click("=Add another unit")
        await give(tab, 1, photo)
        await canny(tab, 1)
        for label, value in (("Weight", 0.5), ("Starts at", 0.25), ("Ends at", 0.75), ("Low Threshold", 60)):
            await set_number(tab, 1, label, value)
        assert [one[2:5] for one in await units(tab)] == [one[2:5] for one in told]
        await draw(tab, "a circle")
        await tab.wait(PICTURE)
        text = await tab.evaluate(INFOTEXT)
        assert f'ControlNet 0: "Module: canny, Model: {MODEL}' in text
        assert f'ControlNet 1: "Module: canny, Model: {MODEL}' in text
        assert "Guidance Start: 0.25, Guidance End: 0.75" in text
        job, number = (await tab.evaluate(f"{PICTURE}.dataset.picture")).split("/")
        urlretrieve(f"{page_server}/latentd/v1/jobs/{job}/images/{number}", saved)
        # Both are there after a reload, each with its picture.
        await reopened(tab)
        await tab.wait("document.querySelector('.fold .note')")
        await tab.click("=ControlNet")
        await tab.wait("document.querySelectorAll('.unit .well img').length === 2")
        # What has changed since is changed back; a unit that is there keeps its picture, another one is wanted.
        await set_number(tab, 0, "Weight", 1.5)
        await tab.click("=Remove unit 1")
        await tab.wait(f"{UNITS} === 1")
        await drop(tab, "[data-drop=reuse]", saved)
        await tab.wait(f"{UNITS} === 2")
        assert await units(tab) == told
        assert await tab.evaluate("document.querySelectorAll('.unit .well img').length") == 1
        assert "give the units theirs" in await tab.evaluate(NOTICE)

    on_page(page_server, use)


def test_a_unit_without_a_picture_is_controlled_by_the_source(page_server: str, photo: Path) -> None:
    async def use(tab: Tab) -> None:
        await tab.click("=From a picture")
        await tab.choose_file("[aria-label='Source picture'] input[type=file]", photo)
        await tab.click("=ControlNet")
        await tab.click("=Unit 0")
        await canny(tab, 0)
        await draw(tab, "a circle")
        await tab.wait(PICTURE)
        assert 'ControlNet 0: "Module: canny' in await tab.evaluate(INFOTEXT)

    on_page(page_server, use)


def test_a_unit_that_lacks_its_picture_is_named_as_the_page_names_it(page_server: str, photo: Path) -> None:
    """The unit before it is off, and counts."""

    async def use(tab: Tab) -> None:
        await tab.click("=ControlNet")
        await give(tab, 0, photo)
        await canny(tab, 0)
        await tab.click("=Unit 0")
        await tab.click("=Add another unit")
        await tab.click("=Unit 1")
        await canny(tab, 1)
        await draw(tab, "a circle")
        await tab.wait("document.querySelector('.problem')")
        assert "unit 1: controlnet is enabled but no input image is given" in await tab.text()
        tab.errors.clear()  # the browser names the request that was refused

    on_page(page_server, use)


def test_units_are_added_and_removed_by_the_keyboard_up_to_the_servers_number(page_server: str, photo: Path) -> None:
    async def use(tab: Tab) -> None:
        focus = "document.activeElement"
        await tab.click("=ControlNet")
        await give(tab, 0, photo)
        await tab.evaluate("document.querySelector('.units > button').focus()")
        await tab.press("Enter")
        await tab.wait(f"{focus}.closest('.unit')?.ariaLabel === 'Unit 1'")
        await tab.press(" ")
        await tab.wait(f"({STORED}).units[1].enabled")
        await tab.evaluate("document.querySelector('.units > button').focus()")
        await tab.press("Enter")
        await tab.wait(f"{focus}.closest('.unit')?.ariaLabel === 'Unit 2'")
        await tab.evaluate("document.querySelector('.units > button').focus()")
        await tab.press("Enter")
        assert "control_net_unit_count is 3" in await tab.text()
        assert await tab.evaluate(UNITS) == 3
        await tab.evaluate("document.querySelector(\"[aria-label='Remove unit 0']\").focus()")
        await tab.press("Enter")
        await tab.wait(f"{UNITS} === 2 && {focus}.innerText === 'Add another unit'")
        assert [one[0] for one in await units(tab)] == [True, False]
        await tab.click("=Undo")
        await tab.wait(f'{UNITS} === 3 && document.querySelector("{well(0)} img")')

    on_page(page_server, use)


def test_the_unit_that_an_older_page_kept_is_there_with_its_picture(page_server: str) -> None:
    older = {
        "prompt": "a circle",
        "control": {
            "enabled": True,
            "module": "canny",
            "model": "None",
            "weight": 0.7,
            "start": 0.1,
            "end": 0.9,
            "mode": "Balanced",
        },
    }

    async def use(tab: Tab) -> None:
        await tab.evaluate(f"localStorage.setItem('latentd:settings:/', {json.dumps(json.dumps(older))})")
        await tab.evaluate("sessionStorage.clear()")
        await tab.evaluate("""new Promise((settle) => {
            const opening = indexedDB.open("latentd:/", 1);
            opening.onsuccess = () => {
                const canvas = document.createElement("canvas");
                const picture = { url: canvas.toDataURL(), width: canvas.width, height: canvas.height };
                const writing = opening.result.transaction("inputs", "readwrite");
                writing.objectStore("inputs").put(picture, "control");
                writing.oncomplete = () => settle(opening.result.close());
            };
        })""")
        await reopened(tab)
        await tab.click("=ControlNet")
        await tab.wait(f'document.querySelector("{well(0)} img")?.naturalWidth === 300')
        assert await units(tab) == [(True, "canny", 0.7, 0.1, 0.9, True, -1)]
        assert await tab.evaluate("document.querySelector('[data-prompt]').value") == "a circle"

    on_page(page_server, use)


def test_on_a_phone_a_unit_is_used_by_touch(page_server: str, photo: Path) -> None:
    async def use(tab: Tab) -> None:
        await tab.resize(390, 844, phone=True)
        await tab.click("=ControlNet")
        await give(tab, 0, photo)
        await tab.click("=Add another unit")
        await give(tab, 1, photo)
        wide = "[...document.querySelectorAll('.units *')].filter((one) => one.getBoundingClientRect().right > 391)"
        assert await tab.evaluate(f"{wide}.length") == 0
        small = """[...document.querySelectorAll(".units button, .units select, .units header label")]
            .map((one) => one.getBoundingClientRect()).filter((one) => Math.min(one.width, one.height) < 24)"""
        assert await tab.evaluate(f"{small}.length") == 0
        await tab.click("=Fields of unit 0")
        await tab.wait(f'!document.querySelector("{well(0)}") && document.querySelector("{well(1)}")')

    on_page(page_server, use)
