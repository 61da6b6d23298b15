"""Whatever the OpenAPI document lets a client send, and some that it does not, is answered without a 500."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("schemathesis")
from tests.fuzz.api import bad_answers, described, with_pictures

#: Of each kind, for each operation; the same ones in each run. ``python -m tests.fuzz.api`` sends more.
EXAMPLES = 4


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The description of a server with every plugin."""
    with described(Path(tmp_path_factory.mktemp("fuzzed"))) as schema:
        yield schema


def test_nothing_a_client_sends_is_a_500(schema: Any) -> None:
    sent, bad = bad_answers(schema, examples=EXAMPLES, seed=1)
    assert not bad
    assert sent > EXAMPLES * 60


def test_plugins_routes_are_asked_too(schema: Any) -> None:
    assert {"/sdapi/v1/txt2img", "/controlnet/detect"} <= {found.ok().path for found in schema.get_all_operations()}


def test_some_requests_have_pictures() -> None:
    sent = with_pictures({"init_images": ["x", 1], "args": [{"image": {"mask": "y"}}], "prompt": "z"})
    assert (sent["init_images"][1], sent["prompt"]) == (1, "z")
    assert sent["init_images"][0] == sent["args"][0]["image"]["mask"] != "x"
