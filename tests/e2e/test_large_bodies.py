"""Bodies over a bound, sent by a client that reads no answer before it has sent all, as most do."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

import pytest
from tests.reference_server import ReferenceServer

MIB = 1 << 20


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sdapi/v1/options", b" " * (20 * MIB)),
        ("/sdapi/v1/txt2img", b" " * (20 * MIB)),
        ("/sdapi/v1/txt2img", b'{"styles": [' + b"0," * 200_000 + b"0]}" + b" " * (20 * MIB)),
    ],
    ids=["a route without pictures", "white space", "values"],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_the_answer_arrives(live: ReferenceServer, path: str, body: bytes, chunked: bool) -> None:
    address = urlsplit(live.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    pieces = (body[start : start + MIB] for start in range(0, len(body), MIB))
    headers = {"Content-Type": "application/json"}
    if not chunked:
        headers["Content-Length"] = str(len(body))
    connection.request("POST", path, pieces, headers, encode_chunked=chunked)
    reply = connection.getresponse()
    assert reply.status == 413
    assert "request body" in json.loads(reply.read())["detail"]
    connection.close()
    assert live.call("GET", "/livez")[0] == 200
