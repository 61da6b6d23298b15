from __future__ import annotations

import json

import pytest

from latentd.infotext.novelai import novelai_infotext
from latentd.infotext.parse import parse_infotext

MADE = {"uc": "bad", "steps": 28, "sampler": "k_euler", "scale": 11.0, "seed": 7}


def items(comment: str) -> dict[str, object]:
    return {"Software": "NovelAI", "Description": "a girl", "Comment": comment}


def test_the_json_becomes_an_infotext() -> None:
    text = novelai_infotext(items(json.dumps(MADE)), 512, 768, {"k_euler": "Euler"})
    assert text is not None
    parsed = parse_infotext(text)
    assert (parsed["Prompt"], parsed["Negative prompt"], parsed["Sampler"]) == ("a girl", "bad", "Euler")
    assert (parsed["Size-1"], parsed["Clip skip"], parsed["ENSD"]) == ("512", "2", "31337")


def test_an_unknown_sampler_is_euler_a() -> None:
    assert "Sampler: Euler a," in (novelai_infotext(items(json.dumps(MADE)), 8, 8, {}) or "")


@pytest.mark.parametrize("comment", ["", "{}", "[]", "not json", "[" * 100000])
def test_broken_comments_give_nothing(comment: str) -> None:
    assert novelai_infotext(items(comment), 8, 8, {}) is None


def test_other_software_is_left_alone() -> None:
    assert novelai_infotext({"Software": "other"}, 8, 8, {}) is None
