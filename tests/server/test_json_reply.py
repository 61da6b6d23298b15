"""Any value that a client sent can be sent back."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentd.server import json_reply
from latentd.server.json_reply import SafeJSONResponse


def test_numbers_that_json_lacks_are_null() -> None:
    body = SafeJSONResponse({"a": [float("nan"), float("inf"), 1.5]}).body
    assert json.loads(bytes(body)) == {"a": [None, None, 1.5]}


def test_unpaired_surrogates_are_escaped() -> None:
    body = SafeJSONResponse({"a": "\ud800"}).body
    assert json.loads(bytes(body)) == {"a": "\ud800"}


def test_other_text_stays_as_it_is() -> None:
    assert bytes(SafeJSONResponse("猫").body) == '"猫"'.encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet='ab"\\\n日😀\ud83d\ude00'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='a"\n日') | st.integers() | st.booleans(), inner),
    max_leaves=30,
)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(content=JSON)
def test_long_replies_are_written_as_short_ones(monkeypatch: pytest.MonkeyPatch, content: object) -> None:
    whole = bytes(SafeJSONResponse(content).body)
    with monkeypatch.context() as patched:
        patched.setattr(json_reply, "PIECE", 3)
        patched.setattr(json_reply, "_BATCH", 2)
        assert json.loads(bytes(SafeJSONResponse(content).body)) == json.loads(whole)
        if b"\\ud" not in whole:
            assert bytes(SafeJSONResponse(content).body) == whole


def test_no_piece_of_a_long_reply_is_long() -> None:
    content = {"images": ["A" * 10 * json_reply.PIECE], "parameters": {"rows": [{"name": "x" * 50}] * 20_000}}
    pieces = list(json_reply._pieces(content, 0))
    assert json.loads(b"".join(pieces)) == content
    assert max(map(len, pieces)) <= json_reply.PIECE


def test_a_long_reply_is_written_on_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    monkeypatch.setattr(SafeJSONResponse, "render", lambda self, content: threads.append(threading.get_ident()) or b"")
    asyncio.run(json_reply.json_reply({}))
    assert threads != [threading.get_ident()]
