"""Any value that a client sent can be sent back."""

from __future__ import annotations

import json

from latentd.server.json_reply import SafeJSONResponse


def test_numbers_that_json_lacks_are_null() -> None:
    body = SafeJSONResponse({"a": [float("nan"), float("inf"), 1.5]}).body
    assert json.loads(bytes(body)) == {"a": [None, None, 1.5]}


def test_unpaired_surrogates_are_escaped() -> None:
    body = SafeJSONResponse({"a": "\ud800"}).body
    assert json.loads(bytes(body)) == {"a": "\ud800"}


def test_other_text_stays_as_it_is() -> None:
    assert bytes(SafeJSONResponse("猫").body) == '"猫"'.encode()
