from __future__ import annotations

import pytest

from latentd.infotext.versions import compatibility_flags, parse_version


def test_versions_compare() -> None:
    texts = ["1.5.2", "v1.6.0-RC", "v1.6.0", "v1.7.0", "v1.7.0-224-ga", "v1.7.0-225-ga", "1.8.0rc1", "1.8", "v1.10.1"]
    orders = [parse_version(text) for text in texts]
    assert None not in orders
    assert orders == sorted(orders)  # type: ignore[type-var]
    assert parse_version("1.8") == parse_version("v1.8.0")


@pytest.mark.parametrize("text", [None, "", "latentd 0.1", "f0.0.17v1.8.0rc", "1.8.0+x", "v" + "1" * 500])
def test_other_texts_are_no_versions(text: str | None) -> None:
    assert parse_version(text) is None
    assert compatibility_flags(text, "[a|b]", "DDIM", "x") == {}


@pytest.mark.parametrize(
    ("version", "flags"),
    [
        ("v1.5.0", {"Old prompt editing timelines", "Pad conds v0", "Downcast alphas_cumprod"}),
        ("v1.6.0", {"Downcast alphas_cumprod"}),
        ("v1.7.0", {"Downcast alphas_cumprod"}),
        ("v1.7.0-225-gabcdef", set()),
        ("v1.8.0", set()),
    ],
)
def test_flags_of_a_version(version: str, flags: set[str]) -> None:
    refiner = {"Refiner switch by sampling steps"} if version != "v1.8.0" else set()
    assert set(compatibility_flags(version, "[a:b:3]", "DDIM", None)) == flags
    assert set(compatibility_flags(version, "[a:b:3]", "PLMS", "x")) == flags | refiner


def test_flags_need_their_cause() -> None:
    assert set(compatibility_flags("v1.5.0", "plain", "Euler", None)) == {"Downcast alphas_cumprod"}
