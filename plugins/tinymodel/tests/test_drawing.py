"""What users of the model ask of it, drawn by the server: colours, words, negative prompts, img2img, masks, edges."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from typing import Any

import latentd_tinymodel
import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image

from latentd.testing import AppFactory

Picture = NDArray[np.float32]
Draw = Callable[..., Picture]

EDGE = 128
RGB = {"red": (222, 30, 38), "green": (34, 160, 60), "blue": (30, 80, 230), "white": (250, 250, 250)}
PIZZA = "a pizza, green background"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server with the package and, where it is installed, ControlNet."""
    factory = AppFactory(tmp_path_factory.mktemp("data"))
    plugins = [latentd_tinymodel]
    try:
        import latentd_controlnet

        plugins.append(latentd_controlnet)
    except ImportError:
        pass
    yield factory(plugins)
    factory.close()


@pytest.fixture(scope="module")
def draw(client: TestClient) -> Draw:
    """Draws a picture (h, w, 3), 0..255, from a prompt and further fields."""

    def drawn(prompt: str, **fields: Any) -> Picture:
        path = "img2img" if "init_images" in fields else "txt2img"
        body = {"prompt": prompt, "steps": 20, "cfg_scale": 6, "width": EDGE, "height": EDGE, "seed": 1}
        reply = client.post(f"/sdapi/v1/{path}", json=body | {"sampler_name": "Euler a"} | fields)
        assert reply.status_code == 200, reply.text
        data = base64.b64decode(reply.json()["images"][0])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32)

    return drawn


@pytest.fixture(scope="module")
def pizza(draw: Draw) -> Picture:
    return draw(PIZZA)


def encoded(picture: NDArray[Any]) -> str:
    file = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def border(picture: Picture) -> Picture:
    """The middle colour of the picture's edges."""
    width = len(picture) // 20
    sides = (picture[:width], picture[:, :width].swapaxes(0, 1), picture[:, -width:].swapaxes(0, 1))
    return np.median(np.concatenate([side.reshape(-1, 3) for side in sides]), axis=0)  # type: ignore[no-any-return]


def colour(picture: Picture) -> str:
    """The name of the border's colour."""
    return min(RGB, key=lambda name: float(np.abs(border(picture) - RGB[name]).sum()))


def thing(picture: Picture) -> NDArray[np.bool_]:
    """Where the picture differs from its border."""
    return np.asarray(np.abs(picture - border(picture)).max(-1) > 36)


@pytest.mark.parametrize("name", RGB)
def test_the_background_is_the_one_asked_for(draw: Draw, name: str) -> None:
    picture = draw(f"a cat on a {name} background")
    assert colour(picture) == name
    assert 0.1 < thing(picture).mean() < 0.7


def test_the_default_size_shows_a_thing_in_the_middle(draw: Draw) -> None:
    picture = draw("a cat on a blue background", width=512, height=512)
    assert colour(picture) == "blue"
    found = thing(picture)
    assert found[192:320, 192:320].mean() > 0.8
    assert found[:64].mean() < 0.02


def test_words_that_it_does_not_know_do_no_harm(draw: Draw) -> None:
    assert colour(draw("zxqv a flurble cat wibbleton on a blue background")) == "blue"
    picture = draw("zxqv flurble wibbleton")
    assert colour(picture) == "white"
    assert np.isfinite(picture).all()


def test_a_negative_prompt_leads_away_from_what_it_names(draw: Draw) -> None:
    for seed in range(3):
        red = RGB["red"]
        without = np.abs(border(draw("background", seed=seed)) - red).sum()
        against = np.abs(border(draw("background", seed=seed, negative_prompt="red background")) - red).sum()
        assert against > 250
        assert against >= without - 40


def test_img2img_keeps_more_of_the_picture_at_low_strength(draw: Draw, pizza: Picture) -> None:
    def drawn(strength: float) -> Picture:
        return draw("a pizza, red background", init_images=[encoded(pizza)], denoising_strength=strength)

    weak, strong = drawn(0.1), drawn(0.8)
    assert np.abs(weak - pizza).mean() < 0.6 * np.abs(strong - pizza).mean()
    assert colour(strong) == "red"


def test_inpainting_draws_inside_the_mask_alone(draw: Draw, pizza: Picture) -> None:
    mask = np.zeros((EDGE, EDGE), np.uint8)
    mask[:, EDGE // 2 :] = 255
    fields = {"init_images": [encoded(pizza)], "mask": encoded(mask), "mask_blur": 4, "inpainting_fill": 1}
    picture = draw("a cat, green background", denoising_strength=0.9, **fields)
    assert np.abs(picture - pizza)[:, :50].mean() < 0.5
    assert np.abs(picture - pizza)[:, 72:].mean() > 10
    assert colour(picture) == "green"


def test_the_controlnet_draws_along_its_edges(draw: Draw, client: TestClient) -> None:
    pytest.importorskip("latentd_controlnet")
    assert client.get("/controlnet/model_list").json()["model_list"][0].startswith("latentd-tiny-canny [")
    edges, wanted = np.zeros((EDGE, EDGE), np.uint8), np.zeros((EDGE, EDGE), bool)
    edges[30:99, [30, 98]] = edges[[30, 98], 30:99] = 255
    wanted[30:99, 30:99] = True
    unit = {"model": "latentd-tiny-canny", "module": "none", "image": encoded(edges), "weight": 1.5}

    def agreement(picture: Picture) -> float:
        found = thing(picture)
        return float((found & wanted).sum() / (found | wanted).sum())

    free = agreement(draw("a cat, red background"))
    led = agreement(draw("a cat, red background", alwayson_scripts={"controlnet": {"args": [unit]}}))
    assert led > 0.7
    assert led > free + 0.1
