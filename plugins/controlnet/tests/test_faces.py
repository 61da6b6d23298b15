"""Adapters that read a face's embedding, which the client sends: FaceID, FaceID plus, InstantID."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import control_files as files
import numpy as np
import pytest
from control_requests import BODY, pixels
from safetensors.torch import save

XL = {"override_settings": {"sd_model_checkpoint": "two"}}


def packed(**tensors: Any) -> str:
    return base64.b64encode(save(tensors)).decode()


FACE, OTHER = packed(face=files.random(1, 512, scale=1)), packed(cond=files.random(1, 512, seed=3, scale=1))
BOTH = packed(face=files.random(1, 512, scale=1), next_to_last=files.random(1, 5, 48, seed=2, scale=1))


def drawn(generate: Callable[..., Any], *units: Any, **fields: Any) -> np.ndarray:
    return pixels(generate(*units, **fields)["images"][0])


def refused(server: Any, *units: Any, **fields: Any) -> str:
    scripts = {"alwayson_scripts": {"controlnet": {"args": list(units)}}}
    reply = server.post("/sdapi/v1/txt2img", json={**BODY, **scripts, **fields})
    assert reply.status_code == 422, reply.text
    return f"{reply.json()['detail']} {reply.json().get('hint')}"


def test_face_id(server: Any, generate: Callable[..., Any]) -> None:
    unit = {"model": "ip_faceid", "module": "ip-adapter_face_id"}
    one, other = (drawn(generate, {**unit, "ipadapter_input": face}) for face in (FACE, OTHER))
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, drawn(generate))
    averaged = drawn(generate, {**unit, "ipadapter_input": [FACE, OTHER]})
    assert not np.array_equal(averaged, one)
    assert np.array_equal(drawn(generate, {**unit, "ipadapter_input": FACE, "weight": 0}), drawn(generate))


def test_face_id_plus_and_its_second_version(generate: Callable[..., Any]) -> None:
    unit = {"module": "ip-adapter_face_id_plus", "ipadapter_input": BOTH}
    first, second = (drawn(generate, {**unit, "model": name}) for name in ("ip_faceid_plus", "ip_faceid_plusv2"))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ({"model": "ip_faceid", "module": "ip-adapter-auto", "image": "@"}, "send ipadapter_input"),
        ({"model": "ip_faceid", "module": "ip-adapter_face_id", "ipadapter_input": packed(cond=files.random(1, 24))},
         "does not fit this adapter"),
        ({"model": "ip_faceid_plus", "module": "ip-adapter_face_id_plus", "ipadapter_input": FACE},
         "lacks a tensor next_to_last for this adapter it reads face and next_to_last"),
        ({"model": "ip", "module": "ip-adapter_face_id", "image": "@"}, "needs insightface"),
        ({"model": "ip_pulid", "module": "ip-adapter-auto", "image": "@"}, "PuLID"),
        ({"model": "sparse", "image": "@"}, "SparseCtrl model, which latentd-controlnet does not run"),
    ],
)  # fmt: skip
def test_what_is_missing_is_told(server: Any, circle: str, unit: dict[str, Any], words: str) -> None:
    assert words in refused(server, {key: circle if value == "@" else value for key, value in unit.items()})


def test_instant_id_attends_to_the_face(server: Any, generate: Callable[..., Any], circle: str) -> None:
    adapter = {"model": "ip_instant_id", "module": "instant_id_face_embedding", "ipadapter_input": FACE}
    net = {"model": "control_instant_id", "image": circle}
    both = drawn(generate, adapter, net, **XL)
    ordinary = drawn(generate, adapter, {**net, "model": "net_xl"}, **XL)
    assert not np.array_equal(both, ordinary), "the same weights under an ordinary name attend to the prompt"
    assert not np.array_equal(both, drawn(generate, {**adapter, "ipadapter_input": OTHER}, net, **XL))
    for units in ([net], [net, adapter], [{"model": "net_xl", "image": circle}, net]):
        assert "must directly follow a unit with InstantID's IP-Adapter" in refused(server, *units, **XL)


def test_what_detection_gives_stands_in_for_the_picture(server: Any, generate: Callable[..., Any], circle: str) -> None:
    body = {"controlnet_module": "ip-adapter_clip_sd15", "controlnet_input_images": [circle]}
    tensor = server.post("/controlnet/detect", json=body).json()["tensor"]
    for model in ("ip", "ip_plus"):
        unit = {"model": model, "module": "ip-adapter_clip_sd15"}
        assert np.array_equal(
            drawn(generate, {**unit, "ipadapter_input": tensor}), drawn(generate, {**unit, "image": circle})
        )


def test_the_encoder_is_chosen_by_the_adapters_width(server: Any, generate: Callable[..., Any], circle: str) -> None:
    unit = {"model": "ip_large", "image": circle}
    automatic = drawn(generate, {**unit, "module": "ip-adapter-auto"})
    assert np.array_equal(automatic, drawn(generate, {**unit, "module": "ip-adapter_clip_g"}))
    assert not np.array_equal(automatic, drawn(generate))


def test_revision_speaks_for_the_prompt(generate: Callable[..., Any], circle: str, half_mask: str) -> None:
    plain = drawn(generate, **XL)
    unit = {"module": "revision_clipvision", "image": circle}
    body = generate(unit, **XL)
    seen = pixels(body["images"][0])
    assert len(body["images"]) == 2
    assert not np.array_equal(seen, plain)
    assert not np.array_equal(drawn(generate, {**unit, "threshold_a": 0.7}, **XL), seen)
    twice = drawn(generate, {**unit, "weight": 0.5}, {**unit, "weight": 0.5}, **XL)
    assert np.abs(twice.astype(int) - seen).mean() < 2, "vectors add up"
    ignoring = {**unit, "module": "revision_ignore_prompt"}
    one, other = (drawn(generate, ignoring, **XL, prompt=prompt) for prompt in ("a ring", "a square"))
    assert np.array_equal(one, other)
    assert np.array_equal(drawn(generate, **XL), plain)
