"""No URL in a request reaches an address inside the network."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from latentd.errors import InvalidImage, InvalidRequest, TooLarge
from latentd.server.fetch import fetch, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1",
        "not an address",
    ],
)  # fmt: skip
def test_inner_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_outer_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x.png", "http://localhost:80/x.png", "http://[::1]/x", "http://0x7f000001/", "http://2130706433/",
        "http://no.invalid/x.png", "file:///etc/passwd", "http://user@8.8.8.8/", "http://8.8.8.8:99999/", "http://[/",
        "http://8.8.8.8/a b", "http:///x",
    ],
)  # fmt: skip
def test_other_urls_are_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(InvalidRequest, match="Request to local resource not allowed"):
        fetch(url, max_bytes=100, user_agent="", forbid_local=True, timeout=2)


class _Pictures(BaseHTTPRequestHandler):
    agents: list[str | None] = []

    def do_GET(self) -> None:
        type(self).agents.append(self.headers["User-Agent"])
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/ok")
            self.end_headers()
            return
        body = b"x" * (1000 if self.path == "/large" else 10)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def pictures() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Pictures)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_body_is_fetched_with_the_agents_name(pictures: str) -> None:
    assert fetch(f"{pictures}/ok?a=b", max_bytes=100, user_agent="tester", forbid_local=False) == b"x" * 10
    assert _Pictures.agents[-1] == "tester"


def test_redirects_are_not_followed(pictures: str) -> None:
    with pytest.raises(InvalidImage, match="Invalid image url"):
        fetch(f"{pictures}/moved", max_bytes=100, user_agent="", forbid_local=False)


def test_large_bodies_are_cut_off(pictures: str) -> None:
    with pytest.raises(TooLarge):
        fetch(f"{pictures}/large", max_bytes=100, user_agent="", forbid_local=False)


def test_a_server_that_is_not_there_is_a_bad_picture() -> None:
    with pytest.raises(InvalidImage, match="Invalid image url"):
        fetch("http://127.0.0.1:1/x", max_bytes=100, user_agent="", forbid_local=False, timeout=2)
