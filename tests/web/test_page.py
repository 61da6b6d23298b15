"""The page in a real browser, used as people use it."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image
from tests.chromium import CTRL, Tab
from tests.web.conftest import (
    PICTURE,
    PREVIEW,
    PROBLEM,
    STORED,
    choose,
    draw,
    draw_long,
    drop,
    needs_chromium,
    on_page,
    picture_of,
    reopened,
)
from tools.server_process import ask, call

pytestmark = needs_chromium


def test_a_prompt_becomes_a_picture_under_the_eyes(page_server: str) -> None:
    async def use(tab: Tab) -> None:
        await draw(tab, "a red ring", steps=40)
        await tab.wait(PREVIEW)
        first = await tab.evaluate(f"{PREVIEW}.src")
        await tab.wait(f"{PREVIEW} && {PREVIEW}.src !== {json.dumps(first)}")
        assert 0 < await tab.evaluate("document.querySelector('progress').value") < 1
        await tab.wait(PICTURE)
        assert (await picture_of(tab)).size == (64, 64)
        text = await tab.text()
        assert "a red ring" in text
        assert "64x64" in text
        # Settings and pictures outlive a reload.
        await reopened(tab)
        assert await tab.evaluate("document.querySelector('[data-prompt]').value") == "a red ring"
        assert await tab.evaluate("document.querySelector('[aria-label=Sampling] .slider input').value") == "40"
        await tab.wait(PICTURE)

    on_page(page_server, use)


def test_what_is_asked_for_is_drawn_as_the_api_draws_it(page_server: str) -> None:
    async def use(tab: Tab) -> Image.Image:
        await tab.fill("=Seed", "77")
        await draw(tab, "a blue star")
        await tab.wait(PICTURE)
        return await picture_of(tab)

    shown = on_page(page_server, use)
    body = {"prompt": "a blue star", "seed": 77, "steps": 4, "width": 64, "height": 64, "cfg_scale": 7}
    drawn = call(page_server, "/sdapi/v1/txt2img", body | {"sampler_name": "Euler a"})["images"][0]
    with Image.open(io.BytesIO(base64.b64decode(drawn))) as picture:
        assert np.array_equal(np.asarray(shown), np.asarray(picture.convert("RGB")))


def test_waiting_jobs_have_places_and_are_cancelled_and_escape_stops_the_one_that_runs(page_server: str) -> None:
    async def use(tab: Tab) -> None:
        await draw_long(tab, "the first")
        for prompt in ("the second", "the third"):
            await tab.fill("=Prompt", prompt)
            await tab.press("Enter", CTRL)
            await tab.wait(f"document.querySelector('.queue')?.innerText.includes({json.dumps(prompt)})")
        rows = "[...document.querySelectorAll('.queue li')].map((row) => row.innerText.replace(/\\s+/g, ' '))"
        places = await tab.evaluate(rows)
        assert [row.split()[0] for row in places[1:]] == ["1", "2"]
        await tab.click("=Cancel: the second")
        await tab.wait(f"{rows}.length === 2 && {rows}[1].startsWith('1 the third')")
        await tab.click("=Cancel: the third")
        await tab.wait("!document.querySelector('.queue')")
        await tab.press("Escape")
        await tab.wait(PICTURE, 20)
        ended = call(page_server, "/latentd/v1/jobs")["jobs"][-3:]
        assert [job["state"] for job in ended] == ["completed", "cancelled", "cancelled"]
        assert ended[0]["interrupted"]

    on_page(page_server, use)


def test_the_running_job_is_cancelled_by_its_button(page_server: str) -> None:
    async def use(tab: Tab) -> None:
        await draw_long(tab, "a ring")
        await tab.click("=Cancel")
        await tab.wait("document.querySelector('.empty')", 20)
        assert call(page_server, "/latentd/v1/jobs")["jobs"][-1]["state"] == "cancelled"

    on_page(page_server, use)


def test_a_masked_part_is_drawn_anew_and_the_rest_stays(page_server: str, photo: Path) -> None:
    async def use(tab: Tab) -> Image.Image:
        await drop(tab, "[data-drop=picture]", photo)
        await tab.click("=Paint a mask")
        await tab.wait("document.querySelector('dialog canvas')")
        await tab.fill("dialog input[type=number]", "20")
        await tab.stroke("dialog canvas", [(0.8, 0.2), (0.8, 0.5), (0.8, 0.8)])
        await tab.click("=Use this mask")
        await tab.wait("document.querySelector('.well .mask')")
        await tab.fill("=Denoising strength", "0.9")
        await draw(tab, "a red ring")
        await tab.wait(PICTURE)
        return await picture_of(tab)

    drawn, source = np.asarray(on_page(page_server, use), float), np.asarray(Image.open(photo), float)
    change = np.abs(drawn - source).mean(axis=2)
    assert change[:, :24].max() < 3, "this half was not masked"
    assert change[16:48, 46:56].mean() > 10


def test_without_a_source_the_page_says_so_and_asks_nobody(page_server: str) -> None:
    async def use(tab: Tab) -> None:
        await tab.click("=From a picture")
        await tab.press("Enter", CTRL)
        await tab.wait(f"({PROBLEM}).includes('no picture to start from')")
        assert not any(address.endswith("/latentd/v1/jobs") for address in tab.requests)

    on_page(page_server, use)


def test_a_wrong_prompt_is_answered_in_the_servers_words(page_server: str) -> None:
    prompt = "a ring <lora:misfit:1>"
    small = {"steps": 1, "width": 64, "height": 64}
    status, refused = ask(page_server, "POST", "/sdapi/v1/txt2img", {"prompt": prompt} | small)
    assert status == 422
    assert "misfit" in refused["detail"]

    async def use(tab: Tab) -> None:
        await draw(tab, prompt)
        await tab.wait(f"({PROBLEM}).includes({json.dumps(refused['detail'])})")

    on_page(page_server, use)


def test_what_the_server_notes_stands_beside_the_picture(page_server: str) -> None:
    async def use(tab: Tab) -> None:
        await draw(tab, "a ring <lora:nowhere:1>")
        assert await tab.evaluate("document.querySelector('.chips .missing').innerText.trim()") == "nowhere"
        await tab.wait("document.querySelector('.warnings')")
        assert "nowhere" in await tab.evaluate("document.querySelector('.warnings').innerText")

    on_page(page_server, use)


def test_a_request_that_is_refused_at_once_is_answered_in_the_servers_words(page_server: str) -> None:
    """The console names the request that failed, as browsers do; there is no other error."""

    async def use(tab: Tab) -> None:
        await tab.evaluate("""(() => {
            const real = window.fetch;
            window.fetch = (address, sent) => sent?.method === "POST" && String(address).endsWith("/jobs")
                ? real(address, { ...sent, body: JSON.stringify({ ...JSON.parse(sent.body), steps: 0 }) })
                : real(address, sent);
        })()""")
        await draw(tab, "a ring")
        await tab.wait(f"({PROBLEM}).includes('steps is 0; it must be at least 1')")
        (error,) = tab.errors
        assert "422" in error
        tab.errors.clear()

    on_page(page_server, use)


def test_a_lora_is_put_into_the_prompt_by_a_click_and_taken_out_by_another(page_server: str) -> None:
    async def use(tab: Tab) -> None:
        prompt = "document.querySelector('[data-prompt]').value"
        await tab.fill("=Prompt", "a ring")
        await tab.click("=LoRAs and embeddings")
        await tab.click("=lines")
        assert await tab.evaluate(prompt) == "a ring <lora:lines:1>"
        await tab.fill("[aria-label='Weight of lines']", "0.6")
        assert await tab.evaluate(prompt) == "a ring <lora:lines:0.6>"
        await draw(tab)
        await tab.wait(PICTURE)
        assert "<lora:lines:0.6>" in await tab.text()
        await tab.click("=lines")
        assert await tab.evaluate(prompt) == "a ring"

    on_page(page_server, use)


def test_the_settings_of_a_dropped_picture_are_in_the_form(page_server: str, tmp_path: Path) -> None:
    body = {
        "prompt": "a green leaf",
        "negative_prompt": "grey",
        "seed": 2**53 + 1,
        "steps": 3,
        "width": 64,
        "height": 96,
    }
    body |= {"sampler_name": "DPM++ 2M", "scheduler": "Karras", "cfg_scale": 4.5}
    path = tmp_path / "leaf.png"
    path.write_bytes(base64.b64decode(call(page_server, "/sdapi/v1/txt2img", body)["images"][0]))

    async def use(tab: Tab) -> None:
        await tab.fill("=Prompt", "something else")
        await drop(tab, "[data-drop=reuse]", path)
        await tab.wait(f"({STORED}).prompt === 'a green leaf'")
        form = await tab.evaluate(STORED)
        assert [form[key] for key in ("negative", "seed", "steps", "width", "height", "cfg")] == [
            *("grey", str(2**53 + 1), 3, 64, 96, 4.5)
        ]
        assert (form["sampler"], form["scheduler"], form["model"].split(".")[0]) == ("DPM++ 2M", "Karras", "base")
        # The same picture comes of it, though its seed is beyond JavaScript's numbers.
        await tab.press("Enter", CTRL)
        await tab.wait(PICTURE)
        with Image.open(path) as before:
            assert np.array_equal(np.asarray(await picture_of(tab)), np.asarray(before.convert("RGB")))
        await tab.click("=Undo")
        await tab.wait(f"({STORED}).prompt === 'something else'")

    on_page(page_server, use)


def test_a_picture_is_sent_on_as_the_source_of_the_next(page_server: str) -> None:
    async def use(tab: Tab) -> None:
        await draw(tab, "a red ring")
        await tab.wait(PICTURE)
        await tab.click("=Use as source")
        await tab.wait("document.querySelector('.well img')")
        assert (await tab.evaluate(STORED))["mode"] == "img2img"
        await tab.press("Enter", CTRL)
        await tab.wait("document.querySelectorAll('.strip img').length === 2")
        await tab.wait(PICTURE)
        assert "Denoising strength" in await tab.text()

    on_page(page_server, use)


def test_hires_fix_and_other_fields_reach_the_server(page_server: str) -> None:
    async def use(tab: Tab) -> None:
        await choose(tab, "Model", "other")
        await choose(tab, "VAE", "fourth")
        await choose(tab, "Sampler", "DDIM")
        await choose(tab, "Schedule", "Karras")
        await tab.fill("=Negative prompt", "grey")
        await tab.click("=Hires fix")
        await tab.click("=Enlarge, then draw again")
        await draw(tab, "a red ring")
        await tab.wait(PICTURE)
        assert (await picture_of(tab)).size == (128, 128)
        text = await tab.evaluate("document.querySelector('.infotext pre').textContent")
        assert text.startswith("a red ring\nNegative prompt: grey\nSteps: 4, Sampler: DDIM, Schedule type: Karras")
        for said in ("Model: other", "VAE: fourth", "Hires upscale: 2"):
            assert said in text

    on_page(page_server, use)


def test_colours_are_chosen_and_kept(page_server: str) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"

    async def use(tab: Tab) -> None:
        await tab.prefer(prefers_color_scheme="dark")
        dark = await tab.evaluate(ground)
        await tab.click("=Colours: As the system")
        light = await tab.wait(f"{ground} !== '{dark}' && {ground}")
        await reopened(tab)
        assert await tab.evaluate(ground) == light
        await tab.click("=Colours: Light")
        await tab.prefer(prefers_color_scheme="light")
        await tab.wait(f"{ground} === '{dark}'")

    on_page(page_server, use)


def test_styles_and_a_refiner_reach_the_server_and_come_back(page_server: str) -> None:
    async def use(tab: Tab) -> None:
        await tab.click("=Styles")
        await tab.click("=oil")
        await tab.click("=Refiner")
        await choose(tab, "Model that ends the picture", "other")
        await tab.fill("=Takes over at", "0.5")
        await draw(tab, "a red ring")
        await tab.wait(PICTURE)
        text = await tab.evaluate("document.querySelector('.infotext pre').textContent")
        assert text.startswith("a red ring, in oil\nNegative prompt: photograph\n")
        assert re.search(r"Refiner: other \[\w{10}\], Refiner switch at: 0.5", text)
        # The server knows the style by its words, and takes them out of the prompts again.
        await tab.click("=oil")
        await tab.wait(f"({STORED}).styles.length === 0")
        await tab.click("=Use settings")
        await tab.wait(f"({STORED}).styles.length === 1")
        form = await tab.evaluate(STORED)
        assert (form["prompt"], form["negative"], form["styles"]) == ("a red ring", "", ["oil"])
        assert (form["refiner"].partition(".")[0], form["refinerAt"]) == ("other", 0.5)

    on_page(page_server, use)


def test_ctrl_and_an_arrow_weigh_the_word_at_the_cursor(page_server: str) -> None:
    async def use(tab: Tab) -> None:
        await tab.fill("=Prompt", "a red ring")
        await tab.click("=Prompt")
        await tab.evaluate("document.activeElement.setSelectionRange(3, 3)")
        for key, text in (
            ("ArrowUp", "a (red:1.1) ring"),
            ("ArrowUp", "a (red:1.2) ring"),
            ("ArrowDown", "a (red:1.1) ring"),
            ("ArrowDown", "a red ring"),
        ):
            await tab.press(key, CTRL)
            words = "it.value.slice(it.selectionStart, it.selectionEnd)"
            await tab.wait(f"(it => it.value === '{text}' && {words} === 'red')(document.activeElement)")

    on_page(page_server, use)
