"""What the plugin serves: the page, its files, and under which rules."""

from __future__ import annotations

import re

import latentd_web
import pytest
from fastapi.testclient import TestClient

from latentd.testing import AppFactory, check_routers

PLUGINS = [latentd_web]
#: The whole page as it comes over the line, compressed: less than one picture.
MOST_BYTES = 40_000


def addresses(page: str) -> list[str]:
    return re.findall(r'(?:href|src)="([^"]+)"', page)


@pytest.fixture
def client(latentd_app: AppFactory) -> TestClient:
    return latentd_app(plugins=PLUGINS)


def test_the_page_takes_the_place_of_the_servers_own(client: TestClient) -> None:
    reply = client.get("/")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert '<div id="page">' in reply.text
    assert client.head("/").status_code == 200


def test_nothing_inline_and_nothing_from_elsewhere_is_allowed(client: TestClient) -> None:
    reply = client.get("/")
    policy = dict(part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert "unsafe" not in reply.headers["content-security-policy"]
    assert policy["frame-ancestors"] == "'none'"
    assert not re.search(r"<style|style=|<script>|\son\w+=", reply.text)


def test_its_files_may_be_kept_since_their_addresses_have_their_hashes(client: TestClient) -> None:
    found = addresses(client.get("/").text)
    assert [address.split("?")[0] for address in found] == [
        f"web-assets/{name}" for name in ("icon.svg", "app.css", "app.js")
    ]
    for address in found:
        reply = client.get(f"/{address}")
        assert reply.status_code == 200
        assert re.fullmatch(r"[0-9a-f]{16}", address.split("?")[1])
        assert "immutable" in reply.headers["cache-control"]
    kinds = [client.get(f"/{address}").headers["content-type"].split(";")[0] for address in found]
    assert kinds == ["image/svg+xml", "text/css", "text/javascript"]


def test_it_is_small(client: TestClient) -> None:
    """In bytes that go over the line."""
    total = 0
    for address in ["", *addresses(client.get("/").text)]:
        with client.stream("GET", f"/{address}", headers={"Accept-Encoding": "gzip"}) as reply:
            total += sum(map(len, reply.iter_raw()))
    assert 10_000 < total < MOST_BYTES


@pytest.mark.parametrize("name", ["nothing.js", "page.py", "..%2Fpage.py", "%2e%2e/__init__.py", "app.js/"])
def test_no_other_file_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/web-assets/{name}", follow_redirects=False).status_code in (307, 404)


def test_the_page_is_public_and_says_what_is_asked_for(latentd_app: AppFactory) -> None:
    keys = latentd_app(plugins=PLUGINS, flags=["--api-key", "secret-1"])
    page = keys.get("/").text
    assert 'data-guarded="true" data-users="false" data-keys="true"' in page
    assert "secret-1" not in page
    assert keys.get(f"/{addresses(page)[2]}").status_code == 200
    assert keys.get("/sdapi/v1/sd-models").status_code == 401
    users = latentd_app(plugins=PLUGINS, flags=["--api-auth", "ann:secret-2"])
    assert 'data-guarded="true" data-users="true" data-keys="false"' in users.get("/").text
    assert 'data-guarded="false"' in latentd_app(plugins=PLUGINS).get("/").text


def test_below_a_prefix_the_addresses_have_it(latentd_app: AppFactory) -> None:
    client = latentd_app(plugins=PLUGINS, flags=["--subpath", "draw"])
    found = addresses(client.get("/draw/").text)
    assert all(address.startswith("/draw/web-assets/") for address in found)
    assert client.get(found[2]).status_code == 200


def test_it_has_no_route_but_the_page_and_its_files() -> None:
    assert check_routers(latentd_web) == {("GET", "/"), ("GET", "/web-assets/{}")}
