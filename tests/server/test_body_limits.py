"""What a request's body may be at most: bytes by route, values and white space of its JSON."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentd.server.body_limits import MOST_BETWEEN, MOST_VALUES, SMALL_BODY, BodyTooLarge, JsonShape
from latentd.testing import AppFactory

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a,[{"\\]}: é\n'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='k",\\'), inner),
    max_leaves=20,
)


def test_bodies_over_the_bound_are_refused(latentd_app: AppFactory) -> None:
    client = latentd_app(flags=["--max-request-mb", "0.001"])
    declared = client.post("/sdapi/v1/png-info", json={"image": "A" * 4000})
    assert declared.status_code == 413
    counted = client.post("/sdapi/v1/png-info", content=iter([b'{"image": "', b"A" * 4000, b'"}']))
    assert counted.status_code == 413
    assert counted.json()["error"] == "HTTPException"
    assert counted.json()["hint"] == "see --max-request-mb"


@pytest.mark.parametrize("path", ["/sdapi/v1/options", "/sdapi/v1/interrupt", "/internal/progress"])
@pytest.mark.parametrize("declared", [True, False])
def test_routes_without_pictures_take_small_bodies(client: TestClient, path: str, declared: bool) -> None:
    content = b'{"k": "' + b"x" * SMALL_BODY + b'"}'
    reply = client.post(path, content=content if declared else iter([content]))
    if path == "/sdapi/v1/interrupt" and not declared:
        assert reply.status_code == 200  # it reads no body
    else:
        assert (reply.status_code, reply.json()["hint"]) == (413, "this request takes no pictures")


@pytest.mark.parametrize(
    "path", ["/sdapi/v1/img2img", "/latentd/v1/jobs", "/sdapi/v1/png-info", "/sdapi/v1/extra-single-image"]
)
def test_routes_with_pictures_take_large_ones(client: TestClient, path: str) -> None:
    reply = client.post(path, json={"image": "A" * SMALL_BODY, "init_images": ["A" * SMALL_BODY]})
    assert reply.status_code in (404, 422)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b" " * (MOST_BETWEEN + 1), "outside of texts"),
        (b"[" * (MOST_VALUES + 1), "values"),
        (b"[" + b"[]," * MOST_VALUES + b"[]]", "values"),
        (b'{"init_images": [' + b'"",' * MOST_VALUES + b'""]}', "values"),
        (b'{"steps": 1' + b"0" * MOST_BETWEEN + b"}", "outside of texts"),
        (b'"' * (4 * MOST_VALUES + 4), "values"),
        (("[" + '"",' * MOST_VALUES + '""]').encode("utf-16"), "values"),
    ],
    ids=["spaces", "depth", "lists", "texts", "digits", "quotes", "utf-16"],
)
@pytest.mark.parametrize("path", ["/sdapi/v1/txt2img", "/sdapi/v1/img2img", "/sdapi/v1/options"])
def test_json_that_is_slow_to_read_is_refused(client: TestClient, path: str, content: bytes, words: str) -> None:
    reply = client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert reply.status_code == 413
    assert words in reply.json()["detail"]


def test_texts_may_hold_anything(client: TestClient) -> None:
    text = ',[{ \\"' * MOST_VALUES
    assert client.post("/sdapi/v1/png-info", json={"image": text}).status_code == 422
    JsonShape().feed(json.dumps({"image": text}).encode())


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(document=DOCUMENTS, cuts=st.lists(st.integers(0, 200)))
def test_values_are_counted_however_the_bytes_arrive(document: Any, cuts: list[int]) -> None:
    shape, data = JsonShape(), json.dumps(document, ensure_ascii=False).encode()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(places):
        shape.feed(data[start:end])
    assert shape.values == _values(document)


def _values(document: Any) -> int:
    """Commas and opening brackets of the document."""
    if not isinstance(document, list | dict):
        return 0
    inner = list(document.values()) if isinstance(document, dict) else document
    return 1 + max(len(inner) - 1, 0) + sum(map(_values, inner))


def test_the_bounds_are_told() -> None:
    with pytest.raises(BodyTooLarge) as refused:
        JsonShape().feed(b"[" * (MOST_VALUES + 1))
    assert "values" in refused.value.detail
