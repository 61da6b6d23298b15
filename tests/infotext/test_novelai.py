from __future__ import annotations

import json

import pytest

from latentd.infotext.novelai import novelai_infotext
from latentd.infotext.parse import parse_infotext
from latentd.sampling.catalogue import SamplerCatalogue, resolve_sampler

MADE = {"uc": "bad", "steps": 28, "sampler": "k_euler", "scale": 11.0, "seed": 7}


def items(comment: str) -> dict[str, object]:
    return {"Software": "NovelAI", "Description": "a girl", "Comment": comment}


def test_the_json_becomes_an_infotext() -> None:
    assert novelai_infotext(items(json.dumps(MADE)), 64, 32) == (
        "a girl\nNegative prompt: bad\n"
        "Steps: 28, Sampler: Euler, CFG scale: 11.0, Seed: 7, Size: 64x32, Clip skip: 2, ENSD: 31337"
    )


@pytest.mark.parametrize(
    ("sampler", "name"),
    [
        ("k_euler", "Euler"),
        ("k_euler_ancestral", "Euler a"),
        ("k_dpmpp_2s_ancestral", "DPM++ 2S a"),
        ("k_dpmpp_2m", "DPM++ 2M"),
        ("k_dpmpp_2m_sde", "DPM++ 2M SDE"),
        ("k_dpmpp_sde", "DPM++ SDE"),
        ("k_dpm_2", "DPM2"),
        ("k_dpm_fast", "DPM fast"),
        ("k_lms", "LMS"),
        ("ddim", "DDIM"),
        ("ddim_v3", "DDIM"),
        ("plms", "PLMS"),
        ("something new", "Euler a"),
    ],
)
@pytest.mark.parametrize("schedule", [None, "native", "karras", "exponential", "polyexponential"])
def test_its_samplers_and_schedules_are_ours(sampler: str, name: str, schedule: str | None) -> None:
    made = MADE | {"sampler": sampler} | ({"noise_schedule": schedule} if schedule else {})
    parsed = parse_infotext(novelai_infotext(items(json.dumps(made)), 512, 768) or "")
    given = sampler.startswith("k_") and schedule not in (None, "native")
    assert (parsed["Sampler"], parsed["Schedule type"]) == (name, str(schedule).title() if given else "Automatic")
    assert resolve_sampler(name, str(schedule) if given else None, SamplerCatalogue()) is not None


@pytest.mark.parametrize("comment", ["", "{}", "[]", "not json", "[" * 100000])
def test_broken_comments_give_nothing(comment: str) -> None:
    assert novelai_infotext(items(comment), 8, 8) is None


def test_other_software_is_left_alone() -> None:
    assert novelai_infotext({"Software": "other"}, 8, 8) is None
