"""Bodies become requests, and come back as AUTOMATIC1111 echoes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from latentd.options import OptionStore
from latentd.server.convert import echo, given_fields, with_infotext
from latentd.server.schemas.generation import GenerationBody, Img2ImgRequest, Txt2ImgRequest

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "recorded_echoes.json").read_text())


def _body(case: dict[str, Any]) -> GenerationBody:
    model = Img2ImgRequest if case["path"].endswith("img2img") else Txt2ImgRequest
    return model.model_validate(case["body"])


@pytest.mark.parametrize("case", RECORDED.values(), ids=RECORDED.keys())
def test_the_echo_is_that_of_the_original(case: dict[str, Any]) -> None:
    body = with_infotext(_body(case), OptionStore(), {})
    shown = echo(body)
    assert shown == case["parameters"]
    assert list(shown) == list(case["parameters"])


def test_newer_fields_are_echoed_where_they_were_sent() -> None:
    assert "scheduler" not in echo(Txt2ImgRequest())
    assert echo(Txt2ImgRequest(scheduler="Karras"))["scheduler"] == "Karras"


def test_pictures_are_echoed_on_request_only() -> None:
    sent: dict[str, Any] = {"init_images": ["x"], "mask": "y"}
    assert echo(Img2ImgRequest(**sent))["init_images"] is None
    assert echo(Img2ImgRequest(**sent, include_init_images=True))["mask"] == "y"


def test_null_is_not_given() -> None:
    assert given_fields(Txt2ImgRequest.model_validate({"seed": None, "steps": 3})) == {"steps"}


def test_what_the_request_says_wins_over_its_infotext() -> None:
    text = "a cat\nSteps: 7, Sampler: DDIM, CFG scale: 4, Seed: 9, Size: 64x96, Clip skip: 2"
    body = Txt2ImgRequest(infotext=text, steps=3, override_settings={"CLIP_stop_at_last_layers": 4})
    filled = with_infotext(body, OptionStore(), {})
    assert (filled.prompt, filled.steps, filled.seed, filled.width, filled.height) == ("a cat", 3, 9, 64, 96)
    assert filled.override_settings == {"CLIP_stop_at_last_layers": 4}


def test_an_infotext_without_noise_source_leaves_the_servers() -> None:
    options = OptionStore()
    options.update({"randn_source": "CPU"})
    body = Txt2ImgRequest(infotext="a\nSteps: 7, Sampler: DDIM, CFG scale: 4")
    assert "randn_source" not in (with_infotext(body, options, {}).override_settings or {})
    named = Txt2ImgRequest(infotext="a\nSteps: 7, Sampler: DDIM, RNG: NV")
    assert (with_infotext(named, options, {}).override_settings or {})["randn_source"] == "NV"


def test_keys_to_skip_are_not_taken_from_an_infotext() -> None:
    options = OptionStore()
    options.update({"infotext_skip_pasting": ["Seed", "Clip skip"]})
    body = Txt2ImgRequest(infotext="a cat\nSteps: 7, Sampler: DDIM, Seed: 9, Clip skip: 2")
    filled = with_infotext(body, options, {})
    assert (filled.steps, filled.seed) == (7, -1)
    assert "CLIP_stop_at_last_layers" not in (filled.override_settings or {})
