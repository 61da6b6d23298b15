"""Long JSON documents are read as :mod:`json` reads them, whatever their texts are cut into."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from latentd.errors import TooLarge
from latentd.server import json_body
from latentd.server.json_body import PIECE, read_json

TEXTS = st.text(alphabet='ab"\\/\n\t,[]{}:é日😀\ud83d\ude00\x7f')
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)
QUICK = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=60, derandomize=True)


@pytest.fixture(params=[13, 32, PIECE])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes that are read at once; the smallest may not be shorter than a pair of escaped surrogates."""
    monkeypatch.setattr(json_body, "PIECE", request.param)
    return int(request.param)


@pytest.mark.parametrize("ascii_only", [True, False])
@QUICK
@given(document=DOCUMENTS)
def test_documents_are_read_as_they_were_written(piece: int, ascii_only: bool, document: Any) -> None:
    data = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert repr(read_json(data)) == repr(json.loads(data))


@QUICK
@example(text='"\n\\', wrapped=False)
@example(text='"\\u00\\', wrapped=True)
@example(text='"' + 13 * "a", wrapped=False)
@example(text='"' + 256 * "a", wrapped=False)
@given(text=st.text(alphabet='"\\u0dDbf8:[]{},1 \n\x00aé'), wrapped=st.booleans())
def test_what_is_no_json_is_the_same_error(piece: int, text: str, wrapped: bool) -> None:
    data = (json.dumps([text])[:-1] + text if wrapped else text).encode()
    assert _outcome(read_json, data) == _outcome(json.loads, data)


def _outcome(read: Any, data: bytes) -> Any:
    try:
        return repr(read(data))
    except json.JSONDecodeError as error:
        return error.msg, error.pos, error.lineno, error.colno
    except UnicodeDecodeError:
        return UnicodeDecodeError


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_other_encodings_are_told_as_json_tells_them(encoding: str) -> None:
    assert read_json('{"a": ["b\\n", 1]}'.encode(encoding)) == {"a": ["b\n", 1]}


def test_long_texts_come_through_whole(piece: int) -> None:
    document = {"image": "QUJD" * 5000, "infotext": 'Steps: 20, "a\\b"\n' * 2000, "other": "日本😀" * 3000}
    for ascii_only in (True, False):
        assert read_json(json.dumps(document, ensure_ascii=ascii_only).encode()) == document


@pytest.mark.parametrize("data", [b'"\xff"', b'{"a": "\xe6\x97"}', b"\xff"])
def test_broken_utf8_is_told(data: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        read_json(data)


def test_the_last_of_equal_keys_counts() -> None:
    assert read_json(b'{"a": 1, "b": 2, "a": "x"}') == {"a": "x", "b": 2}


@pytest.mark.parametrize("wide", ["é", "日", "\\u65e5"])
def test_very_long_texts_are_ascii(wide: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_body, "PIECE", 32)
    monkeypatch.setattr(json_body, "MOST_WIDE", 5000)
    assert read_json(f'["{wide}{"a" * 4999}"]'.encode())
    assert read_json(f'["{"a" * 9000}", "{wide}"]'.encode())
    for text in (wide + 5000 * "a", 5000 * "a" + wide, 9000 * "a" + wide + 9000 * "b"):
        with pytest.raises(TooLarge, match="5000"):
            read_json(f'["{text}"]'.encode())
