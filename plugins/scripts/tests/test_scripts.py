"""The other selectable scripts, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import latentd_scripts
import numpy as np
import pytest
from latentd_scripts.sd_upscale import SDUpscale
from latentd_scripts.ultimate.script import UltimateUpscale
from PIL import Image

from latentd.api import UpscalerSpec, WorkerContext, hookimpl
from latentd.testing import AppFactory, check_script


@pytest.mark.parametrize("script", latentd_scripts.register_scripts(), ids=lambda script: script.title)
def test_arguments_keep_their_contract(script: Any) -> None:
    check_script(script)


def test_a_matrix_has_every_combination(draw: Callable[..., Any]) -> None:
    reply = draw(
        prompt="a ring|red|big", script_name="prompt matrix", script_args=[False, False, "positive", "comma", 0]
    )
    assert reply.info["all_prompts"] == ["a ring", "a ring, red", "a ring, big", "a ring, red, big"]
    assert reply.sizes[1:] == [(64, 64)] * 4
    assert np.array_equal(reply.images[2], draw(prompt="a ring, red").images[0])


def test_a_matrix_of_too_many_parts_is_refused(send: Callable[..., Any]) -> None:
    reply = send("txt2img", prompt="|".join("abcdefghijklmnop"), script_name="prompt matrix")
    assert reply.status_code == 422


def test_lines_are_prompts_or_options(draw: Callable[..., Any]) -> None:
    text = 'a cube\n--prompt "a cone" --seed 3 --steps 1 --sampler_name "DDIM"'
    reply = draw(prompt="red", script_name="prompts from file or textbox", script_args=[True, False, "start", text])
    assert reply.info["all_prompts"] == ["a cube red", "a cone red"]
    assert np.array_equal(reply.images[1], draw(prompt="a cone red", seed=3, steps=1, sampler_name="DDIM").images[0])


@pytest.mark.parametrize("line", ["--colour red", "--steps many", "--prompt", "--prompt 'open", "--steps 99999"])
def test_a_line_that_cannot_be_read_is_refused(send: Callable[..., Any], line: str) -> None:
    reply = send("txt2img", script_name="prompts from file or textbox", script_args=[False, False, "start", line])
    assert reply.status_code in (413, 422), reply.text


def test_loops_feed_their_result_back(draw: Callable[..., Any], picture: str) -> None:
    common = {"init_images": [picture], "denoising_strength": 0.6}
    reply = draw("img2img", **common, script_name="loopback", script_args=[2, 0.9, "Linear", "None"])
    assert reply.sizes == [(128, 64), (64, 64), (64, 64)]
    assert np.array_equal(reply.images[1], draw("img2img", **common).images[0])
    assert reply.info["all_seeds"] == [8]


def test_upscaling_by_tiles_gives_the_enlarged_size(draw: Callable[..., Any], picture: str) -> None:
    args = [None, 16, 1, 2.0]
    reply = draw("img2img", init_images=[picture], denoising_strength=0.3, script_name="SD upscale", script_args=args)
    assert reply.sizes == [(128, 128)]
    assert "SD upscale upscaler: Lanczos" in reply.info["infotexts"][0]


class OfAFile:
    """Offers an upscaler that has a model file."""

    @hookimpl
    def register_upscalers(self) -> list[UpscalerSpec]:
        def double(image: Image.Image, scale: float, context: WorkerContext) -> Image.Image:
            return image.resize((image.width * 2, image.height * 2))

        return [UpscalerSpec(name="Of a file", upscale=double, model_path="/models/double.pth")]


@pytest.mark.parametrize("wanted", [3, "of a file"])
@pytest.mark.parametrize(
    ("script", "field", "rest"),
    [
        (SDUpscale, "upscaler", {"overlap": 16}),
        (UltimateUpscale, "upscaler_index", {"tile_width": 64, "target_size_type": 2, "custom_scale": 2}),
    ],
)
def test_a_worker_elsewhere_is_told_the_upscalers_name_and_file(
    data: Path, picture: str, monkeypatch: pytest.MonkeyPatch, script: Any, field: str, rest: Any, wanted: int | str
) -> None:
    """Its place in the list may be another one's there."""
    told: list[Any] = []
    run = script.run

    def noted(self: Any, services: Any, plan: Any, args: Any, control: Any) -> Any:
        told.append((getattr(args, field), self.model_files(services, plan, args)))
        return run(self, services, plan, args, control)

    monkeypatch.setattr(script, "run", noted)
    factory = AppFactory(data)
    try:
        client = factory([latentd_scripts, OfAFile()])
        small = {"steps": 1, "width": 64, "height": 64, "init_images": [picture]}
        body = {**small, "script_name": script.title, "script_args": {field: wanted, **rest}}
        assert client.post("/sdapi/v1/img2img", json=body).status_code == 200
    finally:
        factory.close()
    assert told == [("Of a file", [Path("/models/double.pth")])]


@pytest.mark.parametrize(("upscaler", "status"), [("Nothing such", 404), (99, 404), (-1, 404)])
def test_unknown_upscalers_are_refused(send: Callable[..., Any], picture: str, upscaler: Any, status: int) -> None:
    reply = send("img2img", init_images=[picture], script_name="sd upscale", script_args=[None, 16, upscaler, 2.0])
    assert reply.status_code == status


@pytest.mark.parametrize(
    ("name", "args", "size"),
    [
        ("outpainting mk2", [None, 32, 4, ["left"], 1.0, 0.05], (128, 64)),
        ("poor man's outpainting", [32, 4, 0, ["down"]], (64, 128)),
    ],
)
def test_outpainting_grows_the_picture_and_keeps_what_was_there(
    draw: Callable[..., Any], picture: str, name: str, args: list[Any], size: tuple[int, int]
) -> None:
    reply = draw("img2img", init_images=[picture], script_name=name, script_args=args)
    assert reply.sizes == [size]
    kept = reply.images[0][8:24, -20:]
    y, x = np.mgrid[8:24, 44:64]
    assert abs(kept.astype(int) - np.stack([x * 4, y * 4, 255 - x * 2], axis=-1)).mean() < 16


def test_a_fill_named_by_a_text_fills_as_in_the_original_and_says_so(draw: Callable[..., Any], picture: str) -> None:
    def outpainted(fill: str | int) -> Any:
        args = [32, 4, fill, ["left", "right", "up", "down"]]
        return draw("img2img", init_images=[picture], script_name="poor man's outpainting", script_args=args)

    plain, named, numbered = outpainted("fill"), outpainted("latent noise"), outpainted(2)
    assert plain.sizes == [(128, 128)]
    assert np.array_equal(plain.images[0], named.images[0])
    assert not np.array_equal(plain.images[0], numbered.images[0])
    assert "warnings" not in plain.info
    assert "warnings" not in numbered.info
    assert ["send the number 2" in text for text in named.info["warnings"]] == [True]


def test_noise_is_found_again(draw: Callable[..., Any], picture: str) -> None:
    args = [None, True, True, "a blue cube", "", True, 3, True, 1.0, 0.0, True]
    common = {"init_images": [picture], "script_name": "img2img alternative test", "script_args": args}
    first, other = draw("img2img", **common), draw("img2img", **common, seed=99)
    assert np.array_equal(first.images[0], other.images[0]), "without randomness the seed plays no part"
    assert "Decode steps: 3" in first.info["infotexts"][0]


def test_code_runs_only_where_it_is_allowed(data: Any, send: Callable[..., Any]) -> None:
    body = {"script_name": "custom code", "script_args": ["display(Image.new('RGB', (8, 8), 'red'))", 2]}
    refused = send("txt2img", **body)
    assert refused.status_code == 422
    assert "--allow-code" in refused.text
    factory = AppFactory(data)
    try:
        client = factory([latentd_scripts], ["--allow-code"])
        assert "custom code" in client.get("/sdapi/v1/scripts").json()["txt2img"]
        reply = client.post("/sdapi/v1/txt2img", json=body)
        assert reply.status_code == 200, reply.text
        assert len(reply.json()["images"]) == 1
    finally:
        factory.close()


def test_a_prompt_matrix_of_more_pictures_than_a_request_may_have_is_refused(send: Callable[..., Any]) -> None:
    eleven_bars = "|".join("abcdefghijkl")
    reply = send(
        "txt2img", prompt=eleven_bars, script_name="prompt matrix", script_args=[False, False, "positive", "comma", 0]
    )
    assert (reply.status_code, reply.json()["detail"]) == (422, "a prompt matrix of 11 parts has 2048 pictures")


@pytest.mark.parametrize(
    ("path", "script", "args"),
    [
        ("txt2img", "prompts from file or textbox", [False, False, "start", "a cat\n" * 2000]),
        ("txt2img", "prompts from file or textbox", [False, False, "start", "--prompt a --n_iter 1000000000"]),
        ("txt2img", "prompts from file or textbox", [False, False, "start", "--prompt a --n_iter 900\n" * 2]),
        ("img2img", "loopback", [1000, 0.5, "Linear", "None"]),
        ("img2img", "sd upscale", ["", 63, "Lanczos", 2.0]),
    ],
    ids=["lines", "batches", "lines of batches", "loops", "tiles"],
)
def test_generations_that_are_too_many_together_are_refused(
    send: Callable[..., Any], picture: str, path: str, script: str, args: list[Any]
) -> None:
    fields = {"init_images": [picture], "width": 64, "height": 64} if path == "img2img" else {}
    reply = send(path, script_name=script, script_args=args, n_iter=2, **fields)
    assert (reply.status_code, reply.json()["hint"]) == (413, "--max-images")
