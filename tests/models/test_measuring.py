"""``--dtype auto``: dtype and layout by measurement, kept for the machine, told, and used by the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from latentd.models import measuring
from latentd.models.devices import DevicePolicy
from latentd.models.measuring import Shapes, measured_policy
from latentd.models.precision import CANDIDATES, PARTS, Measured, Part, Precision, Timing
from latentd.testing import AppFactory, tiny_models


def made_of(seconds: Mapping[tuple[str, bool], float]) -> Measured:
    """Equal timings for every part; those that are not given are slow."""
    return Measured(
        "sd1",
        tuple(
            Timing(part, dtype, last, seconds.get((dtype, last), 9.0))
            for part in PARTS
            for dtype in CANDIDATES[part]
            for last in (False, True)
        ),
    )


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({("float32", False): 1.0}, Precision("float32")),
        ({("float32", False): 1.0, ("bfloat16", False): 0.9}, Precision("float32")),
        ({("float32", False): 1.0, ("bfloat16", False): 0.5}, Precision("bfloat16")),
        ({("float32", False): 1.0, ("bfloat16", True): 0.5}, Precision("bfloat16", channels_last=True)),
        ({("float32", False): 1.0, ("float32", True): 0.99}, Precision("float32")),
        ({("float32", False): 1.0, ("float32", True): 0.8}, Precision("float32", channels_last=True)),
        # channels-last makes float32 fast enough for bfloat16 not to be worth its rounding
        ({("float32", False): 1.0, ("float32", True): 0.6, ("bfloat16", False): 0.5}, Precision("float32", True)),
    ],
)
def test_the_fastest_counts_if_it_is_worth_it(seconds: dict[tuple[str, bool], float], expected: Precision) -> None:
    for part in PARTS:
        assert made_of(seconds).choice(part) == expected


def test_float16_is_for_no_vae() -> None:
    found = made_of({("float32", False): 1.0, ("float16", False): 0.1})
    assert [found.choice(part).dtype for part in PARTS] == ["float16", "float16", "float32"]


@pytest.mark.parametrize("family", ["sd1", "sdxl", "of a plugin"])
def test_every_candidate_is_measured_or_given_up(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Shapes(32, 4, side=8, text=32, decoded=16)
    monkeypatch.setattr(measuring, "SHAPES", dict.fromkeys(measuring.SHAPES, small))
    found = measuring.measure(family)
    layouts: dict[Part, tuple[bool, ...]] = {"unet": (False, True), "text": (False,), "vae": (False, True)}
    assert [(t.part, t.dtype, t.channels_last) for t in found.timings] == [
        (part, dtype, last) for part in PARTS for dtype in CANDIDATES[part] for last in layouts[part]
    ]
    assert all(timing.seconds > 0 for timing in found.timings)
    for part in PARTS:
        found.choice(part)


def test_heads_part_the_width_of_every_family() -> None:
    assert [name for name, shapes in measuring.SHAPES.items() if shapes.channels % shapes.heads] == []


def test_a_machine_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def measure(family: str) -> Measured:
        asked.append(family)
        return made_of({("float32", False): 1.0, ("bfloat16", True): 0.2})

    monkeypatch.setattr(measuring, "measure", measure)
    cache = tmp_path / "cache" / "speed.json"
    for _ in range(2):
        policy = measured_policy(cache)(DevicePolicy(), "sd1")
        assert policy.dtype_of("unet") == torch.bfloat16
        assert policy.precision_of("vae") == Precision("bfloat16", channels_last=True)
    measured_policy(cache)(DevicePolicy(), "sdxl")
    monkeypatch.setattr(measuring, "_machine", lambda: "another machine")
    measured_policy(cache)(DevicePolicy(), "sd1")
    assert asked == ["sd1", "sdxl", "sd1"]


@pytest.mark.parametrize("kept", [[], {}, [{"part": "unet"}], "x", [{"part": "x", "dtype": 1}], None])
def test_what_was_kept_may_be_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: object) -> None:
    monkeypatch.setattr(measuring, "measure", lambda family: made_of({("float32", False): 1.0}))
    cache = tmp_path / "speed.json"
    cache.write_text(json.dumps({f"{measuring._machine()}|sd1": kept}))
    assert measured_policy(cache)(DevicePolicy(), "sd1").precision_of("unet") == Precision("float32")
    assert len(json.loads(cache.read_text())[f"{measuring._machine()}|sd1"]) == 16


def test_a_model_computes_in_what_was_measured(latentd_app: AppFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = {("float32", False): 1.0, ("float32", True): 0.5, ("bfloat16", True): 0.1, ("float16", False): 0.2}
    timings = [t for t in made_of(fast).timings if (t.part, t.dtype) != ("vae", "bfloat16")]
    slow = [Timing("vae", "bfloat16", last, 9.0) for last in (False, True)]
    monkeypatch.setattr(measuring, "measure", lambda family: Measured(family, (*timings, *slow)))
    folder = latentd_app.data_dir / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    tiny_models.write(folder / "tiny.safetensors", tiny_models.checkpoint("sd1"))
    client = latentd_app(flags=["--dtype", "auto"])
    assert client.get("/latentd/v1/precision").json()["models"] == []
    drawn = client.post("/sdapi/v1/txt2img", json={"steps": 2, "width": 64, "height": 64})
    assert drawn.status_code == 200, drawn.text
    (infotext,) = json.loads(drawn.json()["info"])["infotexts"]
    assert ", Precision: bfloat16" in infotext
    assert "VAE precision" not in infotext
    (told,) = client.get("/latentd/v1/precision").json()["models"]
    assert told["parts"] == {
        "unet": {"dtype": "bfloat16", "channels_last": True},
        "text": {"dtype": "bfloat16", "channels_last": True},
        "vae": {"dtype": "float32", "channels_last": True},
    }
    assert {"part": "vae", "dtype": "bfloat16", "channels_last": True, "seconds": 9.0} in told["measured"]
    again = client.post("/sdapi/v1/txt2img", json={"infotext": infotext, "width": 64, "height": 64})
    assert again.status_code == 200, again.text
    assert again.json()["images"] == drawn.json()["images"]
