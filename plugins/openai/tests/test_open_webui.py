"""Open WebUI's own requests in its engines openai and automatic1111, as its backend sends them.

Source: ``backend/open_webui/routers/images.py`` of open-webui/open-webui, autumn 2026: which requests it makes, in
which order and form, and what it reads of the answers.
"""

from __future__ import annotations

import asyncio
import base64
import io
import uuid
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
from openai_requests import KEY, picture, png
from PIL import Image

PROMPT = "a red circle"


def asked(work: Callable[[aiohttp.ClientSession], Awaitable[Any]]) -> Any:
    """What ``work`` returns with a session like that of Open WebUI."""

    async def run() -> Any:
        async with aiohttp.ClientSession(trust_env=True) as session:
            return await work(session)

    return asyncio.run(run())


async def image_data(session: aiohttp.ClientSession, data: str, headers: Any = None) -> tuple[bytes, str]:
    """The bytes and type of a picture of an answer: behind an address, or in base64 with or without a header."""
    if data.startswith(("http://", "https://")):
        async with session.get(data, headers=headers) as reply:
            reply.raise_for_status()
            kind = reply.headers.get("content-type", "")
            assert kind.split("/")[0] == "image"
            return await reply.read(), kind
    return base64.b64decode(data), "image/png"


# --- the engine openai -----------------------------------------------------------------------------------------------


def test_openai_generates_by_model_name_in_base64_and_behind_addresses(server: SimpleNamespace) -> None:
    """Models like ``gpt-image-1`` are asked without a response format, all others for base64.

    An operator's ``IMAGES_OPENAI_API_PARAMS`` come last; a picture behind a URL is fetched with the same headers.
    """
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    headers |= {"X-OpenWebUI-User-Name": "Me", "X-OpenWebUI-User-Role": "user"}

    async def generate(session: aiohttp.ClientSession) -> list[bytes]:
        found = []
        for query, extra in (
            ("", {"model": "sd1", "response_format": "b64_json"}),
            ("", {"model": "gpt-image-1"}),
            ("?api-version=2025-04-01-preview", {"model": "dall-e-2", "response_format": "b64_json"}),
            ("", {"model": "sd1", "response_format": "url", "steps": 2, "negative_prompt": "blue"}),
        ):
            url = f"{server.url}/v1/images/generations{query}"
            body = {"prompt": PROMPT, "n": 1, "size": "64x64", **extra}
            async with session.post(url, json=body, headers=headers) as reply:
                reply.raise_for_status()
                answer = await reply.json(content_type=None)
            for image in answer["data"]:
                again = {name: value for name, value in headers.items() if name != "Content-Type"}
                data, kind = await image_data(session, image.get("url") or image["b64_json"], again)
                assert kind == "image/png"
                found.append(data)
        return found

    pictures = asked(generate)
    assert [Image.open(io.BytesIO(data)).size for data in pictures] == [(64, 64)] * 4


def test_openai_edits_with_one_picture_and_with_a_list(server: SimpleNamespace) -> None:
    """Forms that aiohttp writes, every field a text; a list of pictures is ``image[]``, of one picture here."""
    image = png(Image.new("RGB", (64, 64), (40, 90, 200)))

    async def edit(session: aiohttp.ClientSession) -> list[dict[str, Any]]:
        answers = []
        for name in ("image", "image[]"):
            form = aiohttp.FormData()
            fields = {"model": "sd1", "prompt": PROMPT, "n": 1, "size": "64x64", "background": "auto"}
            for key, value in (fields | {"response_format": "b64_json"}).items():
                form.add_field(key, str(value))
            form.add_field(name, io.BytesIO(image), filename=f"{uuid.uuid4()}.png", content_type="image/png")
            headers = {"Authorization": f"Bearer {KEY}"}
            async with session.post(f"{server.url}/v1/images/edits", headers=headers, data=form) as reply:
                reply.raise_for_status()
                answers.append(await reply.json(content_type=None))
        return answers

    for answer in asked(edit):
        assert [picture(entry["b64_json"]).size for entry in answer["data"]] == [(64, 64)]


# --- the engine automatic1111 ----------------------------------------------------------------------------------------


def test_automatic1111_lists_models_selects_one_and_generates(server: SimpleNamespace) -> None:
    headers = {"authorization": "Basic " + base64.b64encode(b"me:secret").decode()}
    base = f"{server.url}/sdapi/v1"

    async def work(session: aiohttp.ClientSession) -> list[tuple[int, int]]:
        async with session.get(f"{base}/options", headers=headers) as reply:  # the address is verified
            reply.raise_for_status()
        async with session.get(f"{base}/sd-models", headers=headers) as reply:
            models = [{"id": model["title"], "name": model["model_name"]} for model in await reply.json()]
        assert [model["name"] for model in models] == ["sd1", "sdxl"]
        for model in (models[1]["id"], models[0]["id"]):  # an administrator selects a model: every option is sent back
            async with session.get(f"{base}/options", headers=headers) as reply:
                options = await reply.json()
            if model != options["sd_model_checkpoint"]:
                options["sd_model_checkpoint"] = model
                async with session.post(f"{base}/options", json=options, headers=headers) as reply:
                    reply.raise_for_status()
            async with session.get(f"{base}/options", headers=headers) as reply:
                assert (await reply.json())["sd_model_checkpoint"] == model
        data = {"prompt": PROMPT, "batch_size": 2, "width": 64, "height": 64, "steps": 2, "negative_prompt": "blue"}
        data |= {"cfg_scale": 5, "sampler_name": "Euler a", "scheduler": "Karras"}  # AUTOMATIC1111_PARAMS
        async with session.post(f"{base}/txt2img", json=data, headers=headers) as reply:
            answer = await reply.json(content_type=None)
        assert "a red circle" in answer["info"]
        return [Image.open(io.BytesIO((await image_data(session, image))[0])).size for image in answer["images"]]

    sizes = asked(work)
    assert set(sizes) == {(64, 64)}
    assert len(sizes) >= 2


def test_automatic1111_without_credentials_sends_an_empty_header(server: SimpleNamespace) -> None:
    """A server with users refuses it, and an open one does not mind it: see ``test_empty_credentials`` of the core."""

    async def work(session: aiohttp.ClientSession) -> int:
        async with session.get(f"{server.url}/sdapi/v1/options", headers={"authorization": ""}) as reply:
            return reply.status

    assert asked(work) == 401
