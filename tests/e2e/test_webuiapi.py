"""The client library ``webuiapi`` from PyPI, its whole surface, against a server that draws."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from tests.e2e.calls import INPUTS, difference
from tests.reference_server import ReferenceServer

webuiapi = pytest.importorskip("webuiapi")

DRAW: dict[str, Any] = {"prompt": "a red circle", "seed": 7, "steps": 2, "width": 64, "height": 64, "cfg_scale": 7}


def installed(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def api(live: ReferenceServer) -> Iterator[Any]:
    port = int(live.url.rpartition(":")[2])
    client = webuiapi.WebUIApi(port=port, sampler="Euler a")
    yield client
    client.session.close()


@pytest.fixture(scope="module")
def init() -> Image.Image:
    with Image.open(INPUTS / "init128.png") as image:
        return image.convert("RGB").resize((64, 64))


@pytest.fixture(scope="module")
def mask() -> Image.Image:
    with Image.open(INPUTS / "mask128.png") as image:
        return image.resize((64, 64))


def test_txt2img(api: Any) -> None:
    result = api.txt2img(**DRAW)
    assert result.image.size == (64, 64)
    assert result.info["seed"] == 7
    assert result.parameters["sampler_name"] == "Euler a"
    assert difference(result.image, api.txt2img(**DRAW).image) == 0


def test_txt2img_with_hires_fix(api: Any) -> None:
    upscaler = webuiapi.HiResUpscaler.Latent
    result = api.txt2img(**DRAW, enable_hr=True, hr_scale=1.5, hr_upscaler=upscaler, hr_second_pass_steps=1)
    assert result.image.size == (96, 96)


def test_batches(api: Any) -> None:
    assert [image.size for image in api.txt2img(**DRAW, batch_size=2, n_iter=2).images] == [(64, 64)] * 4


def test_img2img(api: Any, init: Image.Image) -> None:
    result = api.img2img(**DRAW, images=[init], denoising_strength=0.5)
    assert result.image.size == (64, 64)
    assert difference(result.image, init) > 0


def test_inpainting(api: Any, init: Image.Image, mask: Image.Image) -> None:
    result = api.img2img(**DRAW, images=[init], mask_image=mask, inpainting_fill=1, mask_blur=0)
    keep = mask.convert("L").point(lambda value: 0 if value else 255)
    black = Image.new("RGB", init.size)
    assert difference(Image.composite(result.image, black, keep), Image.composite(init, black, keep)) <= 1


def test_extras(api: Any, init: Image.Image) -> None:
    single = api.extra_single_image(init, upscaler_1=webuiapi.Upscaler.Lanczos, upscaling_resize=2)
    assert single.image.size == (128, 128)
    assert "Lanczos" in single.info
    batch = api.extra_batch_images([init, init], upscaler_1="Nearest", upscaling_resize=1.5)
    assert [image.size for image in batch.images] == [(96, 96)] * 2
    fixed = api.extra_single_image(
        init, resize_mode=1, upscaling_resize_w=80, upscaling_resize_h=40, upscaler_1="Lanczos"
    )
    assert fixed.image.size == (80, 40)


def test_png_info(api: Any) -> None:
    image = api.txt2img(**DRAW).image
    assert api.png_info(image).info.startswith("a red circle\nSteps: 2, Sampler: Euler a")


def test_options(api: Any) -> None:
    api.set_options({"CLIP_stop_at_last_layers": 2})
    assert api.get_options()["CLIP_stop_at_last_layers"] == 2
    api.set_options({"CLIP_stop_at_last_layers": 1})
    assert api.get_cmd_flags()["data_dir"]


def test_models_by_name(api: Any) -> None:
    before = api.util_get_current_model()
    assert {name.partition(".")[0] for name in api.util_get_model_names()} > {"tiny-a", "tiny-b"}
    try:
        api.util_set_model("tiny-b")
        assert api.util_get_current_model().startswith("tiny-b")
        assert api.txt2img(**DRAW).info["sd_model_name"] == "tiny-b"
    finally:
        api.util_set_model(before)
    assert api.util_get_current_model() == before


def test_progress_and_stopping(api: Any) -> None:
    assert api.get_progress()["state"]["job_count"] == 0
    assert api.interrupt() == {}
    assert api.skip() is None
    api.util_wait_for_ready(0.1)


def test_lists(api: Any) -> None:
    assert "Euler a" in api.util_get_sampler_names()
    assert "karras" in api.util_get_scheduler_names()
    assert [row["name"] for row in api.get_upscalers()][:3] == ["None", "Lanczos", "Nearest"]
    assert len(api.get_latent_upscale_modes()) == 6
    assert {row["model_name"] for row in api.get_sd_vae()} >= {"alt-vae.safetensors"}
    assert {row["name"] for row in api.get_loras()} >= {"tinylora1"}
    assert [row["name"] for row in api.get_hypernetworks()] == ["tinyhyper"]
    assert isinstance(api.get_face_restorers(), list)
    assert len(api.get_realesrgan_models()) == 6
    assert api.get_prompt_styles()
    assert "tinyti" in api.get_embeddings()["loaded"]
    assert api.get_memory()["ram"]["used"] > 0
    assert api.refresh_checkpoints() is None
    assert {"refiner", "seed"} <= set(api.get_scripts()["txt2img"])


def test_alwayson_script_by_its_arguments(api: Any) -> None:
    assert api.txt2img(**DRAW, alwayson_scripts={"Seed": {"args": [-1]}}).image.size == (64, 64)


def test_async(api: Any, init: Image.Image) -> None:
    pytest.importorskip("aiohttp")

    async def both() -> list[Any]:
        return list(
            await asyncio.gather(
                api.txt2img(**DRAW, use_async=True), api.img2img(**DRAW, images=[init], use_async=True)
            )
        )

    first, second = asyncio.run(both())
    assert difference(first.image, api.txt2img(**DRAW).image) == 0
    assert second.image.size == (64, 64)


def test_errors_carry_the_status(api: Any) -> None:
    with pytest.raises(RuntimeError) as caught:
        api.txt2img(**DRAW, sampler_name="No Such Sampler")
    assert caught.value.args[0] == 404


@installed("latentd_scripts")
def test_ultimate_upscale(api: Any, init: Image.Image) -> None:
    """The arguments of a widely copied example, with smaller tiles and an upscaler that needs no file."""
    args = ["", 64, 0, 8, 32, 64, 0.275, 32, 1, False, 0, True, 8, 3, 2, 1080, 1440, 1.875]
    script = {"script_name": "Ultimate SD upscale", "script_args": args}
    result = api.img2img(**DRAW, images=[init], denoising_strength=0.3, **script)
    assert [image.size for image in result.images] == [(128, 128)] * 2
    assert "Ultimate SD upscale tile_width: 64" in result.info["infotexts"][0]
    assert difference(*result.images) > 0


@installed("latentd_scripts")
def test_dynamic_prompts(api: Any) -> None:
    scripts = {"Dynamic Prompts v2.17.1": {"args": [True, True]}}
    result = api.txt2img(**{**DRAW, "prompt": "a {red|blue} circle"}, alwayson_scripts=scripts)
    assert result.info["all_prompts"] == ["a red circle", "a blue circle"]


@installed("latentd_controlnet")
def test_controlnet(api: Any, init: Image.Image) -> None:
    assert api.controlnet_version() >= 2
    assert "canny" in api.controlnet_module_list()
    (model,) = [name for name in api.controlnet_model_list() if "canny" in name]
    unit = webuiapi.ControlNetUnit(image=init, module="canny", model=model, processor_res=64)
    plain, led = api.txt2img(**DRAW), api.txt2img(**DRAW, controlnet_units=[unit])
    assert difference(plain.image, led.image) > 0
    assert len(api.controlnet_detect([init], module="canny", processor_res=64).images) == 1


@pytest.fixture(scope="module")
def face() -> Image.Image:
    """A photograph with one face."""
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(data.astronaut()).resize((128, 128), Image.Resampling.LANCZOS)


@installed("latentd_detailer")
@installed("latentd_facerestore")
@installed("latentd_controlnet")
def test_adetailer_with_a_control_or_a_vae_of_its_own(api: Any, face: Image.Image) -> None:
    def detailed(**keys: Any) -> Any:
        unit = webuiapi.ADetailer(ad_model="face_mtcnn", ad_denoising_strength=0.9, **keys)
        return api.img2img(**DRAW, images=[face], adetailer=[SimpleNamespace(to_dict=lambda: True), unit])

    plain = detailed()
    (model,) = [name for name in api.controlnet_model_list() if "canny" in name]
    led = detailed(ad_controlnet_model=model, ad_controlnet_module="canny", ad_controlnet_weight=0.8)
    assert "ADetailer ControlNet weight: 0.8" in led.info["infotexts"][0]
    assert difference(plain.image, led.image) > 0
    late = detailed(ad_controlnet_model=model, ad_controlnet_module="canny", ad_controlnet_guidance_start=1.0)
    assert difference(plain.image, late.image) == 0, "a unit that never begins changes nothing"
    assert difference(plain.image, detailed(ad_use_vae=True, ad_vae="alt-vae.safetensors").image) > 0
    with pytest.raises(RuntimeError) as caught:
        detailed(ad_controlnet_model="no such model")
    assert caught.value.args[0] == 422


@installed("latentd_detailer")
@installed("latentd_facerestore")
def test_adetailer(api: Any, face: Image.Image) -> None:
    """Its own class of units, with its keys of mid-2024."""
    draw = {**DRAW, "width": 64, "height": 64, "images": [face]}
    unit = webuiapi.ADetailer(ad_model="face_mtcnn", ad_denoising_strength=0.9, ad_mask_k_largest=1)
    found = api.img2img(**draw, adetailer=[unit])
    assert "ADetailer model: face_mtcnn" in found.info["infotexts"][0]
    assert "ADetailer mask only top k: 1" in found.info["infotexts"][0]
    assert not [said for said in found.info.get("warnings", []) if "no effect" in said]
    # The client has no switch for skipping img2img, after which the random model leaves no face: it stands before the
    # unit, in the place where the client puts what its objects give.
    found = api.img2img(**draw, adetailer=[SimpleNamespace(to_dict=lambda: True), unit])
    assert "warnings" not in found.info
    rest = (0, 80, 128, 128)
    assert difference(face.crop(rest), found.image.crop(rest)) == 0
    assert difference(face, found.image) > 0


@installed("latentd_interrogators")
def test_interrogate_names_what_it_lacks(api: Any, init: Image.Image) -> None:
    """No model file of an interrogator is at hand: the answer is an error that says so, not a crash."""
    with pytest.raises(RuntimeError) as caught:
        api.interrogate(init)
    assert 400 <= caught.value.args[0] < 500 or caught.value.args[0] in (501, 503)


@installed("latentd_interrogators")
@installed("onnxruntime")
def test_tagger(api: Any) -> None:
    tagger = webuiapi.TaggerInterface(api)
    assert tagger.tagger_interrogators() == {"models": ["wd-v1-4-vit-tagger-v2"]}
    told = tagger.tagger_interrogate(Image.new("RGB", (40, 40), "red"), threshold=0.5)
    assert set(told.info["rating"]) == {"general"}
    assert set(told.info["tag"]) == {"red"}
    with pytest.raises(RuntimeError, match="wd-v1-4-swinv2-tagger-v2"):
        tagger.tagger_interrogate(Image.new("RGB", (40, 40)), model="wd14-swinv2-v2")


@installed("latentd_rembg")
def test_rembg(api: Any) -> None:
    scene = Image.new("RGB", (64, 48), "blue")
    scene.paste("red", (32, 0, 64, 48))
    rembg = webuiapi.RemBGInterface(api)
    cut = rembg.rembg(input_image=scene).image
    assert (cut.mode, cut.size) == ("RGBA", (64, 48))
    assert (cut.getpixel((60, 20)), cut.getpixel((4, 20))) == ((255, 0, 0, 255), (0, 0, 0, 0))
    mask = rembg.rembg(input_image=scene, return_mask=True).image
    assert (mask.getpixel((60, 20)), mask.getpixel((4, 20))) == (255, 0)
    assert rembg.rembg(input_image=scene, alpha_matting=True, alpha_matting_erode_size=3).image.mode == "RGBA"
    with pytest.raises(RuntimeError, match=r"isnet-anime.onnx is missing in .*u2net"):
        rembg.rembg(input_image=scene, model="isnet-anime")
