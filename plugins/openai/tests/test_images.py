"""What OpenAI's own client gets, sync and async; and what is drawn for it."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import latentd_openai
import numpy as np
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai_requests import KEY, listening, picture, png
from PIL import Image

from latentd.testing import AppFactory

SMALL: dict[str, Any] = {"prompt": "a red circle", "size": "64x64", "model": "sd1"}


def test_the_models_are_the_checkpoints(sdk: OpenAI) -> None:
    listed = list(sdk.models.list())
    assert [(model.id, model.object, model.owned_by) for model in listed] == [
        ("sd1", "model", "latentd"),
        ("sdxl", "model", "latentd"),
    ]
    assert listed[0].created > 1_600_000_000
    assert sdk.models.retrieve("sdxl").id == "sdxl"
    assert sdk.models.retrieve("sdxl.safetensors").id == "sdxl"
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.models.retrieve("none/such")
    assert caught.value.code == "model_not_found"


def test_a_text_becomes_pictures(sdk: OpenAI, server: SimpleNamespace) -> None:
    extras = {"seed": 7, "steps": 2, "cfg_scale": 3.5, "negative_prompt": "blue", "sampler": "Euler a"}
    reply = sdk.images.generate(**SMALL, n=2, extra_body=extras)
    assert [picture(str(image.b64_json)).size for image in reply.data or ()] == [(64, 64)] * 2
    assert (reply.size, reply.output_format, reply.quality, reply.background) == ("64x64", "png", "medium", "opaque")
    plan = server.plans[-1]
    assert (plan.sampler.spec.name, plan.steps, list(plan.seeds), plan.batch_size) == ("Euler a", 2, [7, 8], 2)
    infotext = picture(str((reply.data or [])[0].b64_json)).text["parameters"]  # type: ignore[attr-defined]
    assert infotext.startswith(
        "a red circle\nNegative prompt: blue\nSteps: 2, Sampler: Euler a, CFG scale: 3.5, Seed: 7"
    )


def test_what_is_drawn_is_what_txt2img_draws(sdk: OpenAI, server: SimpleNamespace) -> None:
    reply = sdk.images.generate(**SMALL, extra_body={"seed": 5, "steps": 3})
    body = {"prompt": "a red circle", "seed": 5, "steps": 3, "width": 64, "height": 64, "sampler_name": "Euler"}
    other = server.client.post("/sdapi/v1/txt2img", json=body).json()["images"][0]
    ours, theirs = np.asarray(picture(str((reply.data or [])[0].b64_json))), np.asarray(picture(other))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(("quality", "steps", "said"), [("low", 2, "low"), ("hd", 6, "high"), ("max", 12, "max")])
def test_quality_is_a_number_of_steps(
    sdk: OpenAI, server: SimpleNamespace, quality: Any, steps: int, said: str
) -> None:
    reply = sdk.images.generate(**SMALL, quality=quality)
    assert (server.plans[-1].steps, reply.quality) == (steps, said)


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_formats_and_compression(sdk: OpenAI, format: Any) -> None:
    sizes = []
    for compression in (100, 10):
        reply = sdk.images.generate(
            **SMALL, output_format=format, output_compression=compression, extra_body={"seed": 1}
        )
        data = base64.b64decode(str((reply.data or [])[0].b64_json))
        assert Image.open(io.BytesIO(data)).format == format.upper()
        sizes.append(len(data))
    assert sizes[0] > sizes[1]


def test_each_request_has_its_own_model(sdk: OpenAI, server: SimpleNamespace) -> None:
    """Also side by side; the selected one stays selected."""

    async def both() -> None:
        async with AsyncOpenAI(api_key=KEY, base_url=f"{server.url}/v1") as client:
            names = ["sdxl", "sd1", "sdxl", "sd1"]
            await asyncio.gather(*(client.images.generate(**SMALL | {"model": name}) for name in names))

    before = len(server.plans)
    asyncio.run(both())
    assert sorted(plan.checkpoint.partition(".")[0] for plan in server.plans[before:]) == ["sd1", "sd1", "sdxl", "sdxl"]
    assert server.client.get("/sdapi/v1/options").json()["sd_model_checkpoint"].startswith("sd1.")


def test_an_openai_name_means_the_selected_checkpoint_and_that_is_told(sdk: OpenAI, server: SimpleNamespace) -> None:
    reply = sdk.images.generate(**SMALL | {"model": "gpt-image-1"}, moderation="low", style="vivid")
    warnings = " ".join((reply.model_extra or {})["warnings"])
    assert ["'gpt-image-1'" in warnings, "moderation" in warnings, "style" in warnings] == [True] * 3
    assert server.plans[-1].checkpoint.startswith("sd1.")
    assert "warnings" not in (sdk.images.generate(**SMALL).model_extra or {})


def test_auto_is_the_size_that_the_model_was_trained_on(server: SimpleNamespace) -> None:
    from latentd_openai.models import native_side

    services = server.client.app.state.services
    assert [native_side(checkpoint) for checkpoint in services.models.checkpoints] == [512, 1024]


def test_a_url_leads_to_the_picture_without_a_key_and_to_nothing_else(sdk: OpenAI, server: SimpleNamespace) -> None:
    reply = sdk.images.generate(**SMALL, n=2, response_format="url", output_format="webp", extra_body={"seed": 3})
    urls = [str(image.url) for image in reply.data or ()]
    assert all(url.startswith(f"{server.url}/v1/images/files/") for url in urls)
    fetched = [httpx.get(url) for url in urls]
    assert [(got.status_code, got.headers["content-type"]) for got in fetched] == [(200, "image/webp")] * 2
    assert fetched[0].content != fetched[1].content
    for wrong in (urls[0].replace("/0.webp", "/1.webp"), urls[0].replace("compression=100", "compression=99")):
        got = httpx.get(wrong)
        assert (got.status_code, got.json()["error"]["type"]) == (404, "invalid_request_error")
    assert httpx.get(urls[0].replace(".webp", ".exe")).status_code == 400
    job = server.client.get("/latentd/v1/jobs").json()["jobs"][-1]["id"]
    server.client.app.state.services.engine.get(job).expire()
    gone = httpx.get(urls[0])
    assert (gone.status_code, "expired" in gone.json()["error"]["message"]) == (404, True)


@pytest.mark.parametrize("partial", [0, 1, 3])
def test_a_stream_has_partial_pictures_and_then_the_picture(sdk: OpenAI, partial: int) -> None:
    fields = {"seed": 5, "steps": 8}
    events = list(sdk.images.generate(**SMALL, stream=True, partial_images=partial, extra_body=fields))
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image"] * partial + ["image_generation.completed"]
    assert [event.partial_image_index for event in events[:-1]] == list(range(partial))  # type: ignore[union-attr]
    assert {picture(event.b64_json).size for event in events} == {(64, 64)}
    assert len({event.b64_json for event in events}) == partial + 1
    whole = sdk.images.generate(**SMALL, extra_body=fields)
    assert events[-1].b64_json == (whole.data or [])[0].b64_json
    assert (events[-1].size, events[-1].output_format, events[-1].usage.total_tokens) == ("64x64", "png", 0)  # type: ignore[union-attr]


def test_a_stream_of_several_pictures(server: SimpleNamespace) -> None:
    async def events() -> list[Any]:
        async with AsyncOpenAI(api_key=KEY, base_url=f"{server.url}/v1") as client:
            stream = await client.images.generate(
                **SMALL, n=2, stream=True, partial_images=1, extra_body={"seed": 5, "steps": 4}
            )
            return [event async for event in stream]

    heard = asyncio.run(events())
    assert [event.type.partition(".")[2] for event in heard[-2:]] == ["completed", "completed"]
    assert [event.partial_image_index for event in heard[:-2]] == [0, 0]
    assert heard[-1].b64_json != heard[-2].b64_json


def test_an_error_on_the_way_ends_the_stream(sdk: OpenAI, server: SimpleNamespace) -> None:
    (server.data / "models/Stable-diffusion/broken.safetensors").write_bytes(b"no weights")
    server.client.post("/sdapi/v1/refresh-checkpoints")
    try:
        with pytest.raises(openai.APIError, match="broken"):
            list(sdk.images.generate(**SMALL | {"model": "broken"}, stream=True))
        with pytest.raises(openai.BadRequestError, match="broken"):
            sdk.images.generate(**SMALL | {"model": "broken"})
    finally:
        (server.data / "models/Stable-diffusion/broken.safetensors").unlink()
        server.client.post("/sdapi/v1/refresh-checkpoints")


def test_a_client_that_leaves_a_stream_cancels_its_job_where_that_is_asked_for(tmp_path: Path, weights: Path) -> None:
    models = tmp_path / "models/Stable-diffusion"
    models.mkdir(parents=True)
    (models / "sd1.safetensors").symlink_to(weights / "sd1.safetensors")
    factory = AppFactory(tmp_path)
    client = factory([latentd_openai], ["--cancel-on-disconnect"])
    body = SMALL | {"stream": True, "partial_images": 1, "steps": 900}
    with listening(client) as port:
        with httpx.stream("POST", f"http://127.0.0.1:{port}/v1/images/generations", json=body, timeout=120) as reply:
            job = reply.headers["x-latentd-job"]
        until = time.monotonic() + 60
        while (state := client.get(f"/latentd/v1/jobs/{job}").json()["state"]) in ("queued", "running"):
            assert time.monotonic() < until
            time.sleep(0.05)
    factory.close()
    assert state == "cancelled"


# --- edits and variations --------------------------------------------------------------------------------------------


def ground(size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, (40, 90, 200))


def hole(image: Image.Image) -> Image.Image:
    """``image`` with its right half transparent."""
    out = image.convert("RGBA")
    out.paste((0, 0, 0, 0), (image.width // 2, 0, image.width, image.height))
    return out


def test_an_edit_repaints_what_is_transparent_in_the_mask(sdk: OpenAI, server: SimpleNamespace) -> None:
    files = {"image": png(ground()), "mask": png(hole(ground()))}
    reply = sdk.images.edit(**files, prompt="a red circle", model="sd1", extra_body={"seed": 1, "steps": 4})
    pixels = np.asarray(picture(str((reply.data or [])[0].b64_json)).convert("RGB")).astype(int)
    change = np.abs(pixels - (40, 90, 200)).max(-1)
    assert change[:, :20].max() <= 1
    assert change[:, -20:].mean() > 10
    assert (server.plans[-1].request.inpainting_fill, server.plans[-1].denoising_strength) == (1, 0.75)
    assert reply.size == "64x64"


def test_an_edit_without_a_mask_repaints_what_is_transparent_in_the_picture(sdk: OpenAI, server: Any) -> None:
    sdk.images.edit(image=png(hole(ground())), prompt="a red circle", model="sd1")
    request = server.plans[-1].request
    assert (request.inpainting_fill, request.denoising_strength) == (0, 1.0)
    assert np.asarray(request.mask)[:, -1].min() == 255
    sdk.images.edit(image=png(ground()), prompt="a red circle", model="sd1", input_fidelity="high")
    request = server.plans[-1].request
    assert (request.mask, request.denoising_strength) == (None, 0.45)


def test_an_edit_takes_json_lists_of_one_and_streams(sdk: OpenAI, server: SimpleNamespace) -> None:
    url = "data:image/png;base64," + base64.b64encode(png(ground())).decode()
    for given in (
        {"image": url},
        {"image": [url]},
        {"images": [{"image_url": url}]},
        {"image": {"image_url": {"url": url}}},
    ):
        reply = server.client.post(
            "/v1/images/edits", json={"prompt": "a circle", "model": "sd1", "strength": 0.5, **given}
        )
        assert reply.status_code == 200, reply.text
        assert server.plans[-1].denoising_strength == 0.5
    events = list(sdk.images.edit(image=[png(ground())], prompt="x", model="sd1", stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]


def test_a_large_picture_of_any_shape_is_drawn_in_whole_eights() -> None:
    from latentd_openai.pictures import size_like

    assert size_like(ground((67, 131))) == (64, 128)
    width, height = size_like(ground((3000, 2000)))
    assert (width % 8, height % 8, width * height <= 1.02 * 2**20, round(width / height, 1)) == (0, 0, True, 1.5)


def test_variations(sdk: OpenAI, server: SimpleNamespace) -> None:
    reply = sdk.images.create_variation(image=png(ground()), n=2, size="64x64", model="sd1")  # type: ignore[arg-type]
    assert len(reply.data or ()) == 2
    plan = server.plans[-1]
    assert (plan.is_img2img, plan.prompts[0], plan.denoising_strength) == (True, "", 0.6)


def test_a_variation_in_json_with_words_and_a_strength(server: SimpleNamespace) -> None:
    url = "data:image/png;base64," + base64.b64encode(png(ground())).decode()
    body = {"image": url, "model": "sd1", "prompt": "a red circle", "strength": 0.4, "response_format": "url"}
    reply = server.client.post("/v1/images/variations", json=body)
    assert reply.status_code == 200, reply.text
    plan = server.plans[-1]
    assert (plan.prompts[0], plan.denoising_strength, reply.json()["size"]) == ("a red circle", 0.4, "64x64")
    assert server.client.get(reply.json()["data"][0]["url"]).headers["content-type"] == "image/png"
    refused = server.client.post("/v1/images/variations", json=body | {"mask": url})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "mask")


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": "none"}, "model", "model_not_found"),
        ({"n": 11}, "n", "invalid_value"),
        ({"n": "many"}, "n", "invalid_type"),
        ({"size": "big"}, "size", None),
        ({"background": "transparent"}, "background", None),
        ({"output_compression": 50}, "output_compression", None),
        ({"output_format": "gif"}, "output_format", "invalid_value"),
        ({"partial_images": 2}, "partial_images", None),
        ({"stream": True, "response_format": "url"}, "response_format", None),
        ({"extra_body": {"stepz": 3}}, "stepz", "unknown_parameter"),
        ({"prompt": ""}, "prompt", "invalid_value"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    sdk: OpenAI, fields: dict[str, Any], param: str, code: str | None
) -> None:
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as caught:
        sdk.images.generate(**SMALL | fields)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.type == "invalid_request_error"


def test_errors_of_everybody_have_openais_form(server: SimpleNamespace, sdk: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        OpenAI(api_key="sk-wrong", base_url=f"{server.url}/v1", max_retries=0).models.list()
    assert refused.value.code == "invalid_api_key"
    missing = server.client.post("/v1/images/generations", json={})
    assert missing.json() == {
        "error": {
            "message": "Missing required parameter: 'prompt'.",
            "type": "invalid_request_error",
            "param": "prompt",
            "code": "missing_required_parameter",
        }
    }
    for method, path, body in (("POST", "/v1/images/none", {}), ("POST", "/v1/images/edits", [1])):
        error = server.client.request(method, path, json=body).json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
    with pytest.raises(openai.BadRequestError, match="8"):
        sdk.images.generate(**SMALL | {"size": "64x0"})
    assert server.client.get("/sdapi/v1/none").json() == {"detail": "Not Found"}


def test_a_full_queue_is_a_rate_limit_that_says_when_to_come_again(tmp_path: Path, weights: Path) -> None:
    models = tmp_path / "models/Stable-diffusion"
    models.mkdir(parents=True)
    (models / "sd1.safetensors").symlink_to(weights / "sd1.safetensors")
    factory = AppFactory(tmp_path)
    client = factory([latentd_openai], ["--max-queue", "1"])
    client.app.state.services.engine.pause()
    assert client.post("/latentd/v1/jobs", json={"prompt": "x"}).status_code == 202
    with (
        listening(client) as port,
        OpenAI(api_key="any", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0) as sdk,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        sdk.images.generate(**SMALL)
    factory.close()
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert int(caught.value.response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "image"),
        ({"image": b"no picture"}, "not a picture"),
        ({"image": png(ground()), "mask": png(ground())}, "transparent"),
        ({"image": png(ground()), "mask": png(hole(ground((32, 64))))}, "one size"),
        ({"image": [png(ground()), png(ground())]}, "one picture"),
        ({"image": png(ground()), "sound": b"x"}, "sound"),
    ],
)
def test_files_that_cannot_be_edited(server: SimpleNamespace, files: dict[str, Any], words: str) -> None:
    parts = [
        (name, (f"{name}.png", data, "image/png"))
        for name, given in files.items()
        for data in (given if isinstance(given, list) else [given])
    ]
    reply = server.client.post("/v1/images/edits", data={"prompt": "x"}, files=parts or None)
    assert reply.status_code == 400
    assert words in reply.json()["error"]["message"]
