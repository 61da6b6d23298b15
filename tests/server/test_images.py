"""Pictures in requests and replies: extras, png-info, interrogate."""

from __future__ import annotations

import base64
import io
import weakref
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from latentd.hookspecs import hookimpl
from latentd.plugins.catalogue import install_hint
from latentd.server.images import ImageIO
from latentd.services import InterrogatorSpec, PostprocessorSpec, WorkerContext
from latentd.settings import parse_settings
from latentd.testing import AppFactory

INFOTEXT = "a cat\nNegative prompt: a dog\nSteps: 12, Sampler: Euler, CFG scale: 5.5, Seed: 42, Size: 64x96"


def _png(mode: str = "RGB", size: tuple[int, int] = (24, 16), **texts: str) -> str:
    chunks = PngInfo()
    for key, value in texts.items():
        chunks.add_text(key, value)
    out = io.BytesIO()
    Image.new(mode, size, 77).save(out, "PNG", pnginfo=chunks)
    return base64.b64encode(out.getvalue()).decode()


def _open(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_png_info_gives_text_items_and_parameters(client: TestClient) -> None:
    reply = client.post("/sdapi/v1/png-info", json={"image": f" {_png(parameters=INFOTEXT, other='x')} "}).json()
    assert reply["info"] == INFOTEXT
    assert reply["items"] == {"other": "x", "parameters": INFOTEXT}
    assert reply["parameters"]["Seed"] == "42"
    assert reply["parameters"]["Size-2"] == "96"
    assert reply["parameters"]["RNG"] == "GPU"


def test_png_info_reads_novelais_pictures(client: TestClient) -> None:
    comment = '{"sampler": "k_dpmpp_2m", "noise_schedule": "karras", "uc": "bad", "steps": 28, "scale": 5, "seed": 7}'
    image = _png(Software="NovelAI", Description="a girl", Comment=comment)
    reply = client.post("/sdapi/v1/png-info", json={"image": image}).json()
    assert "Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5, Seed: 7" in reply["info"]
    assert reply["parameters"]["Negative prompt"] == "bad"


def test_a_picture_without_infotext_has_defaults_only(client: TestClient) -> None:
    reply = client.post("/sdapi/v1/png-info", json={"image": "data:image/png;base64," + _png()}).json()
    assert (reply["info"], reply["items"], reply["parameters"]["Prompt"]) == ("", {}, "")


@pytest.mark.parametrize("image", ["", "!!!!", "bm90IGFuIGltYWdl", "A" * 7])
@pytest.mark.parametrize("path", ["png-info", "extra-single-image", "interrogate"])
def test_what_is_no_picture_is_refused(client: TestClient, path: str, image: str) -> None:
    reply = client.post(f"/sdapi/v1/{path}", json={"image": image})
    assert (reply.status_code, reply.json()["detail"]) == (422, "Invalid encoded image")


def test_urls_are_off_unless_allowed(latentd_app: AppFactory) -> None:
    body = {"image": "http://127.0.0.1:1/x.png"}
    off = latentd_app().post("/sdapi/v1/png-info", json=body)
    assert (off.status_code, off.json()["detail"]) == (422, "Requests not allowed")
    allowed = latentd_app(flags=["--allow-image-urls"]).post("/sdapi/v1/png-info", json=body)
    assert (allowed.status_code, allowed.json()["detail"]) == (422, "Request to local resource not allowed")


def test_large_pictures_are_refused(latentd_app: AppFactory) -> None:
    client = latentd_app(flags=["--max-image-mp", "0.0001"])
    assert client.post("/sdapi/v1/png-info", json={"image": _png()}).status_code == 413


def test_extras_keep_the_texts_of_the_picture(client: TestClient) -> None:
    body: dict[str, Any] = {"image": _png("RGBA", parameters=INFOTEXT), "upscaler_1": "Lanczos", "upscaling_resize": 2}
    reply = client.post("/sdapi/v1/extra-single-image", json=body).json()
    line = "Postprocess upscale by: 2.0, Postprocess upscaler: Lanczos"
    image = _open(reply["image"])
    assert reply["html_info"] == f"<p>{line}</p>"
    assert (image.size, image.mode, image.info) == ((48, 32), "RGB", {"parameters": INFOTEXT, "postprocessing": line})


def test_extras_take_several_pictures(client: TestClient) -> None:
    files = [{"data": _png(), "name": "a.png"}, {"data": _png(size=(8, 8)), "name": "b.png"}]
    reply = client.post("/sdapi/v1/extra-batch-images", json={"imageList": files, "upscaler_1": "Nearest"}).json()
    assert [_open(text).size for text in reply["images"]] == [(48, 32), (16, 16)]
    empty = client.post("/sdapi/v1/extra-batch-images", json={"imageList": []})
    assert (empty.status_code, empty.json()) == (200, {"html_info": "<p></p>", "images": []})


def test_unknown_upscalers_name_what_to_install(client: TestClient) -> None:
    reply = client.post("/sdapi/v1/extra-single-image", json={"image": _png(), "upscaler_1": "R-ESRGAN 4x+"})
    assert reply.status_code == 404
    assert reply.json()["detail"] == "could not find upscaler named R-ESRGAN 4x+"
    assert reply.json()["hint"] == install_hint("upscalers")


def test_faces_need_their_package(client: TestClient) -> None:
    reply = client.post("/sdapi/v1/extra-single-image", json={"image": _png(), "gfpgan_visibility": 1})
    assert (reply.status_code, reply.json()["hint"]) == (422, install_hint("facerestore"))


class Steps:
    """A plugin with a step that writes down its parameters."""

    @hookimpl
    def register_postprocessors(self) -> list[PostprocessorSpec]:
        def run(image: Any, params: Any, context: WorkerContext) -> tuple[Any, dict[str, Any]]:
            return image, {"Marked": f"{params.get('mark')} {params['upscaling_resize']:g}"}

        return [PostprocessorSpec(name="Mark", order=1, run=run)]


@pytest.mark.parametrize(
    ("asked", "line"),
    [(None, "Marked: None 2"), ({"Mark": False}, ""), ({"Mark": "no"}, ""), ({"Mark": {"mark": "x"}}, "Marked: x 2")],
)
def test_extras_take_and_leave_steps_of_plugins_by_name(latentd_app: AppFactory, asked: Any, line: str) -> None:
    client = latentd_app(plugins=[Steps()])
    reply = client.post("/sdapi/v1/extra-single-image", json={"image": _png(), "postprocessors": asked})
    assert (reply.status_code, reply.json()["html_info"]) == (200, f"<p>{line}</p>")


def test_steps_that_are_not_there_are_refused(latentd_app: AppFactory) -> None:
    client = latentd_app(plugins=[Steps()])
    reply = client.post("/sdapi/v1/extra-single-image", json={"image": _png(), "postprocessors": {"Marc": True}})
    assert (reply.status_code, reply.json()["hint"]) == (404, "did you mean 'Mark'?")
    wrong = client.post("/sdapi/v1/extra-single-image", json={"image": _png(), "postprocessors": {"Mark": [1]}})
    assert wrong.status_code == 422


def test_fields_that_extras_do_not_know_are_told(client: TestClient) -> None:
    client.post("/sdapi/v1/extra-single-image", json={"image": _png(), "upscaler": "Lanczos"})
    (job,) = client.get("/latentd/v1/jobs").json()["jobs"]
    assert job["warnings"] == ["field 'upscaler' is not known and has no effect"]


class Interrogators:
    """A plugin with one interrogator."""

    @hookimpl
    def register_interrogators(self, services: object) -> list[InterrogatorSpec]:
        def size(image: Image.Image, context: WorkerContext) -> str:
            return f"{image.mode} {image.width}x{image.height}"

        return [InterrogatorSpec(name="size", interrogate=size, aliases=("dimensions",))]


def test_interrogators_come_from_plugins(latentd_app: AppFactory) -> None:
    client = latentd_app(plugins=[Interrogators()])
    for model in ("size", "dimensions"):
        reply = client.post("/sdapi/v1/interrogate", json={"image": _png("L"), "model": model})
        assert reply.json() == {"caption": "RGB 24x16"}
    unknown = client.post("/sdapi/v1/interrogate", json={"image": _png(), "model": "sise"})
    assert (unknown.status_code, unknown.json()["detail"]) == (404, "Model not found")
    assert "size" in unknown.json()["hint"]


def test_without_interrogator_the_package_is_named(client: TestClient) -> None:
    reply = client.post("/sdapi/v1/interrogate", json={"image": _png()})
    assert reply.status_code == 404
    assert reply.json()["hint"] == install_hint("interrogators")
    missing = client.post("/sdapi/v1/interrogate", json={"image": None})
    assert (missing.status_code, missing.json()["detail"]) == (404, "Image not found")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("img2img", {"init_images": [_png()] * 2, "batch_size": 3, "mask": _png()}),
        ("img2img", {"init_images": [_png()], "mask": _png(), "latent_mask": _png()}),
    ],
)
def test_pictures_of_one_request_are_bounded_together(latentd_app: AppFactory, path: str, body: dict[str, Any]) -> None:
    size = {"width": 8, "height": 8}
    few = latentd_app(flags=["--max-batch-mp", "0.001"]).post(f"/sdapi/v1/{path}", json={**size, **body})
    assert (few.status_code, few.json()["hint"]) == (413, "--max-batch-mp")
    assert few.json()["detail"] == "the pictures of one request have over 1000 pixels"


@pytest.mark.parametrize(("flags", "status"), [(["--max-batch-mp", "0.001"], 200), (["--max-total-mp", "0.001"], 413)])
def test_pictures_that_are_worked_on_one_by_one_are_bounded_by_all_that_a_request_may_ask_for(
    latentd_app: AppFactory, flags: list[str], status: int
) -> None:
    files = [{"data": _png(size=(16, 8 * n)), "name": str(n)} for n in range(1, 6)]
    body = {"imageList": files, "upscaler_1": "Nearest", "upscaling_resize": 1}
    reply = latentd_app(flags=flags).post("/sdapi/v1/extra-batch-images", json=body)
    assert reply.status_code == status, reply.text
    if status == 200:
        assert [_open(text).size for text in reply.json()["images"]] == [(16, 8 * n) for n in range(1, 6)]
    else:
        assert reply.json()["hint"] == "--max-total-mp"


def test_of_many_pictures_few_are_in_memory_at_once() -> None:
    alive: list[weakref.ref[Image.Image]] = []
    most = 0

    def decode() -> Image.Image:
        alive.append(weakref.ref(image := Image.new("RGB", (64, 64))))
        return image

    def work(image: Image.Image) -> tuple[Image.Image, dict[str, str]]:
        nonlocal most
        alive.append(weakref.ref(made := image.resize((128, 128))))
        most = max(most, sum(one() is not None for one in alive))
        return made, {}

    images = ImageIO(parse_settings([], environment={}), {"samples_format": "png", "jpeg_quality": 80})
    assert len(images.through([decode] * 40, work)) == 40
    images.close()
    # In work and made of it, decoded ahead, encoded behind: two wherever one is just being handed on.
    assert most <= 6


def test_a_picture_that_turns_out_damaged_ends_the_request(client: TestClient) -> None:
    cut = base64.b64encode(base64.b64decode(_png(size=(200, 200)))[:-40]).decode()
    files = [{"data": _png(), "name": "a"}, {"data": cut, "name": "b"}, {"data": _png(), "name": "c"}]
    reply = client.post("/sdapi/v1/extra-batch-images", json={"imageList": files})
    assert (reply.status_code, reply.json()["detail"]) == (422, "Invalid encoded image")
    assert client.post("/sdapi/v1/extra-batch-images", json={"imageList": files[:1]}).status_code == 200


def test_pictures_are_counted_before_they_are_read(latentd_app: AppFactory) -> None:
    body = {"imageList": [{"data": "no picture", "name": "a"}] * 20}
    reply = latentd_app(flags=["--max-images", "10"]).post("/sdapi/v1/extra-batch-images", json=body)
    assert (reply.status_code, reply.json()["hint"]) == (413, "--max-images")
