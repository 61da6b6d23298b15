"""Who may use the page, and whether everybody can: keys, users, a prefix, and the rules of accessibility."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.chromium import CTRL, Tab
from tests.web.conftest import (
    PICTURE,
    PREVIEW,
    READY,
    RUNNING,
    SIGN_IN,
    draw,
    draw_long,
    needs_chromium,
    on_page,
    reopened,
    served,
)

pytestmark = needs_chromium

ROOT = Path(__file__).parents[2]
AXE = ROOT / "tests/clients/node/node_modules/axe-core/axe.min.js"
needs_axe = pytest.mark.skipif(
    not AXE.exists(), reason="needs what `npm ci --prefix tests/clients/node` installs (`make env` does where npm is)"
)


@pytest.fixture(scope="module")
def guarded(page_data: Path) -> Iterator[str]:
    """The address of a server with a key, a user and a prefix."""
    with served(page_data, "--api-key", "key-1", "--api-auth", "ann:pässword", "--subpath", "draw") as url:
        yield f"{url}/draw/"


# --- credentials and prefix ------------------------------------------------------------------------------------------


def test_with_a_key_and_below_a_prefix(guarded: str) -> None:
    async def use(tab: Tab) -> None:
        await tab.wait("document.activeElement.type === 'password'")
        await tab.call("Input.insertText", text="wrong")
        await tab.press("Enter")
        await tab.wait("document.querySelector('.sign-in .bad').innerText.includes('does not know this key')")
        await tab.fill(".sign-in [type=password]", "key-1")
        await tab.click(".sign-in .main")
        await tab.wait(READY)
        tab.errors.clear()  # the browser names the requests that were refused
        await draw(tab, "a red ring", steps=30)
        await tab.wait(PREVIEW)
        await tab.press("Escape")
        await tab.wait(PICTURE)
        # In this tab the key is kept; after signing out it is not.
        await reopened(tab)
        assert await tab.evaluate("localStorage.getItem('latentd:credentials:/draw/')") is None
        await tab.click("=Sign out")
        await tab.wait(SIGN_IN)
        tab.errors.clear()  # a list that was asked for at that moment is refused
        assert await tab.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}]).includes('key-1')") is False

    on_page(guarded, use, until=SIGN_IN)


def test_with_a_name_and_a_password_that_are_to_be_kept(guarded: str) -> None:
    async def use(tab: Tab) -> None:
        await tab.click("=Name and password")
        await tab.fill("=Name", "ann")
        await tab.fill("=Password", "pässword")
        await tab.click("=Stay signed in on this device")
        await tab.click(".sign-in .main")
        await tab.wait(READY)
        await tab.wait("Object.keys(localStorage).some((key) => key.startsWith('latentd:credentials'))")

    on_page(guarded, use, until=SIGN_IN)


# --- accessibility ---------------------------------------------------------------------------------------------------


async def violations(tab: Tab) -> list[str]:
    """What axe finds against the rules of WCAG 2.2 (A and AA) and its own best practices."""
    await tab.evaluate(AXE.read_text(encoding="utf-8") + "; true")
    # Colours fade into one another for a moment when something appears.
    await tab.evaluate(
        "Promise.all(document.getAnimations().map((one) => one.finished.catch(() => 0))).then(() => true)"
    )
    found: dict[str, Any] = await tab.evaluate("axe.run(document)")
    assert len(found["passes"]) > 15
    return [f"{one['id']}: {node['html']}" for one in found["violations"] for node in one["nodes"]]


@needs_axe
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_view_keeps_to_the_rules_of_accessibility(page_server: str, colours: str) -> None:
    async def use(tab: Tab) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        await tab.prefer(prefers_color_scheme=colours, prefers_reduced_motion="reduce")
        found["nothing drawn yet"] = await violations(tab)
        for fold in ("LoRAs and embeddings", "Styles", "Hires fix", "Refiner", "ControlNet", "More"):
            await tab.click(f"={fold}")
        await tab.click("=Enlarge, then draw again")
        await tab.click("=Add another unit")
        await tab.click("=Unit 1")
        found["everything unfolded"] = await violations(tab)
        await tab.click("=Enlarge, then draw again")
        await tab.click("=Unit 1")
        await draw_long(tab, "a red ring <lora:nowhere:1>")
        await tab.press("Enter", CTRL)
        await tab.wait("document.querySelector('.queue')")
        found["while it is drawn, and one waits"] = await violations(tab)
        await tab.press("Escape")
        await tab.wait(f"!document.querySelector('.queue') && {RUNNING} && {PREVIEW}")
        await tab.press("Escape")
        await tab.wait(PICTURE)
        found["a picture with a note"] = await violations(tab)
        await tab.click("=Inpaint")
        await tab.wait("document.querySelector('dialog canvas')")
        found["the mask's editor"] = await violations(tab)
        await tab.press("Escape")
        await tab.resize(390, 844, phone=True)
        found["on a phone, the form"] = await violations(tab)
        await tab.click(".tabs label:last-child")
        found["on a phone, the picture"] = await violations(tab)
        return {view: those for view, those in found.items() if those}

    assert on_page(page_server, use) == {}


@needs_axe
def test_the_form_that_asks_for_a_key_keeps_to_the_rules(guarded: str) -> None:
    async def use(tab: Tab) -> None:
        assert await violations(tab) == []

    on_page(guarded, use, until=SIGN_IN)


def test_on_a_phone_on_its_side_there_is_room_for_the_form(page_server: str) -> None:
    async def use(tab: Tab) -> None:
        await tab.resize(844, 390, phone=True)
        assert await tab.evaluate("document.querySelector('.scroll').clientHeight") > 390 / 2
        await tab.click(".tabs label:last-child")
        await tab.wait("document.querySelector('.empty').clientHeight > 0")

    on_page(page_server, use)


def test_the_page_itself_does_not_scroll(page_server: str) -> None:
    async def use(tab: Tab) -> None:
        await tab.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        await tab.evaluate("document.querySelector('.units input[type=file]').focus()")
        await tab.evaluate("document.querySelector('.main').scrollIntoView({ block: 'start' })")
        assert await tab.evaluate("[scrollY, document.documentElement.scrollHeight - innerHeight]") == [0, 0]

    on_page(page_server, use)


def test_on_a_phone_nothing_sticks_out(page_server: str) -> None:
    async def use(tab: Tab) -> None:
        await tab.resize(360, 740, phone=True)
        wide = "[...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > 361)"
        shown = f"{wide}.filter((one) => !one.closest('.strip, .unseen')).map((one) => one.outerHTML.slice(0, 80))"
        assert await tab.evaluate(shown) == []
        await draw(tab, "a ring")
        await tab.wait(PICTURE)
        assert await tab.evaluate(shown) == []

    on_page(page_server, use)
