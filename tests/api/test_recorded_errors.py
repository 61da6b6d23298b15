"""Replies that AUTOMATIC1111 1.8.0 gave to requests it refuses, and to actions without a body."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "recorded_errors.json").read_text())


def _picture() -> str:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


@pytest.mark.parametrize("case", RECORDED.values(), ids=RECORDED.keys())
def test_status_and_body_are_those_recorded(planned: TestClient, case: dict[str, Any]) -> None:
    raw = case.get("raw")
    content = raw.encode() if raw is not None else json.dumps(case["body"]).encode()
    content = content.replace(b'"@small64.png"', json.dumps(_picture()).encode())
    reply = planned.request(case["method"], case["path"], content=content)
    body = reply.json()
    if isinstance(body, dict):
        body.pop("hint", None)
    assert (reply.status_code, body) == (case["status"], case["reply"])
