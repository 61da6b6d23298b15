"""Values are read as pydantic v1 read them, and refused in its words."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from latentd.server.errors import v1_error
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
        ("seed", 2**64 - 1, 2**64 - 1),
        ("subseed", str(2**64 - 1), 2**64 - 1),
        ("seed", -5, -5),
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


@pytest.mark.parametrize(
    ("field", "sent", "kind", "limit"),
    [
        ("seed", 2**64, "value_error.number.not_le", 2**64 - 1),
        ("subseed", -(2**63), "value_error.number.not_ge", 1 - 2**63),
        ("steps", 2**63, "value_error.number.not_le", 2**63 - 1),
    ],
)
def test_integers_out_of_bounds_tell_the_bound(field: str, sent: int, kind: str, limit: int) -> None:
    with pytest.raises(ValidationError) as refused:
        Txt2ImgRequest.model_validate({field: sent})
    entry = v1_error(dict(refused.value.errors()[0]))
    assert (entry["type"], entry["ctx"]) == (kind, {"limit_value": limit})


@pytest.mark.parametrize("model", [ExtrasSingleImageRequest, ExtrasBatchImagesRequest])
@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ("upscaling_resize", 1, 8),
        ("gfpgan_visibility", 0, 1),
        ("codeformer_visibility", 0, 1),
        ("codeformer_weight", 0, 1),
        ("extras_upscaler_2_visibility", 0, 1),
        ("upscaling_resize_w", 1, None),
        ("upscaling_resize_h", 1, None),
    ],
)
def test_extras_fields_have_the_originals_bounds(model: Any, field: str, low: int, high: int | None) -> None:
    def refusal(value: float) -> dict[str, Any] | None:
        try:
            model.model_validate({"imageList": [], field: value})
        except ValidationError as error:
            return v1_error(dict(error.errors()[0]))
        return None

    assert refusal(low) is None
    under = refusal(low - 1)
    assert under is not None
    assert (under["msg"], under["ctx"]["limit_value"]) == (f"ensure this value is greater than or equal to {low}", low)
    if high is not None:
        assert refusal(high) is None
        over = refusal(high + 0.01)
        assert over is not None
        assert (over["type"], over["ctx"]["limit_value"]) == ("value_error.number.not_le", high)


def test_the_mode_of_extras_is_one_of_two() -> None:
    with pytest.raises(ValidationError) as refused:
        ExtrasSingleImageRequest.model_validate({"resize_mode": 2})
    entry = v1_error(dict(refused.value.errors()[0]))
    assert (entry["msg"], entry["ctx"]) == ("unexpected value; permitted: 0, 1", {"given": 2, "permitted": [0, 1]})
