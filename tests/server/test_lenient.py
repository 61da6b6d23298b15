"""Values are read as pydantic v1 read them, and refused in its words."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from latentd.server.schemas.generation import Txt2ImgRequest
from latentd.server.schemas.images import ExtrasBatchImagesRequest, ExtrasSingleImageRequest, PNGInfoRequest


@pytest.mark.parametrize(
    ("field", "sent", "read"),
    [
        ("steps", "20", 20),
        ("steps", 20.7, 20),
        ("steps", True, 1),
        ("cfg_scale", "7.5", 7.5),
        ("prompt", 12, "12"),
        ("prompt", 1.5, "1.5"),
        ("enable_hr", "yes", True),
        ("enable_hr", "ON", True),
        ("enable_hr", 1, True),
        ("enable_hr", "f", False),
        ("prompt", "a\ud800b 猫\U0001f600", "a\ufffdb 猫\U0001f600"),
        ("seed", None, None),
        ("alwayson_scripts", [], {}),
        ("styles", [1, "a"], ["1", "a"]),
        ("script_args", {"x": 1}, {"x": 1}),
    ],
)
def test_lenient_values_are_accepted(field: str, sent: Any, read: Any) -> None:
    assert getattr(Txt2ImgRequest.model_validate({field: sent}), field) == read


@pytest.mark.parametrize(
    ("field", "sent", "kind", "words"),
    [
        ("steps", "ten", "type_error.integer", "value is not a valid integer"),
        ("steps", [1], "type_error.integer", "value is not a valid integer"),
        ("steps", math.inf, "type_error.integer", "value is not a valid integer"),
        ("cfg_scale", "x", "type_error.float", "value is not a valid float"),
        ("cfg_scale", math.nan, "value_error.number.not_finite_number", "ensure this value is a finite number"),
        ("prompt", ["a"], "type_error.str", "str type expected"),
        ("prompt", True, "type_error.str", "str type expected"),
        ("enable_hr", "maybe", "type_error.bool", "value could not be parsed to a boolean"),
        ("enable_hr", 2, "type_error.bool", "value could not be parsed to a boolean"),
        ("override_settings", "x", "type_error.dict", "value is not a valid dict"),
        ("script_args", "x", "type_error.list", "value is not a valid list"),
    ],
)
def test_other_values_are_refused_in_v1_words(field: str, sent: Any, kind: str, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Txt2ImgRequest.model_validate({field: sent})
    error = refused.value.errors()[0]
    assert (error["loc"], error["type"], error["msg"]) == ((field,), kind, words)


def test_integers_beyond_64_bits_are_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to"):
        Txt2ImgRequest.model_validate({"seed": 10**30})


def test_unknown_keys_are_ignored_and_remembered() -> None:
    body = Txt2ImgRequest.model_validate({"no_such_field": 1})
    assert body.model_dump() == Txt2ImgRequest().model_dump()
    assert body.unknown_fields == ("no_such_field",)


def test_an_empty_list_is_an_empty_object() -> None:
    with pytest.raises(ValidationError) as refused:
        PNGInfoRequest.model_validate([])
    assert refused.value.errors()[0]["type"] == "missing"


@pytest.mark.parametrize("body", [{"resize_mode": 2}, {"upscaling_resize": 0}, {"gfpgan_visibility": 1.1}])
def test_extras_have_ranges(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ExtrasSingleImageRequest.model_validate(body)


def test_batch_pictures_need_data_and_name() -> None:
    with pytest.raises(ValidationError) as refused:
        ExtrasBatchImagesRequest.model_validate({"imageList": [{"data": "x"}]})
    assert refused.value.errors()[0]["loc"] == ("imageList", 0, "name")
