"""Basic users, bearer keys and plugins that vouch."""

from __future__ import annotations

import base64

import pytest
from fastapi import APIRouter, Request

from latentd.hookspecs import hookimpl
from latentd.server.auth import NOT_AUTHENTICATED, WRONG_CREDENTIALS, Credentials
from latentd.testing import AppFactory


def _basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("header", "user", "problem"),
    [
        (_basic("ann:secret"), "ann", ""),
        (_basic("ann:wrong"), None, WRONG_CREDENTIALS),
        (_basic("bob:secret"), None, WRONG_CREDENTIALS),
        (_basic("ann"), None, NOT_AUTHENTICATED),
        ("Basic ???", None, NOT_AUTHENTICATED),
        ("Bearer key-1", "bearer", ""),
        ("Bearer key-2", None, WRONG_CREDENTIALS),
        ("Digest x", None, NOT_AUTHENTICATED),
        (None, None, NOT_AUTHENTICATED),
    ],
)
def test_headers_are_judged(header: str | None, user: str | None, problem: str) -> None:
    caller, said = Credentials({"ann": "secret"}, ["key-1"]).caller_of(header)
    assert (caller and caller.name, said) == (user, problem)


def test_an_unknown_user_with_an_empty_password_is_refused() -> None:
    assert Credentials({"ann": "secret"}, []).caller_of(_basic("bob:"))[0] is None


def test_every_route_is_guarded_but_health_and_documentation(latentd_app: AppFactory) -> None:
    client = latentd_app(flags=["--api-auth", "ann:secret", "--api-key", "key-1"])
    for path in ("/sdapi/v1/samplers", "/internal/ping", "/latentd/v1/plugins", "/sdapi/v1/loras", "/nope"):
        reply = client.get(path)
        assert reply.status_code == 401, path
        assert reply.headers["www-authenticate"] == "Basic"
        assert reply.json() == {"error": "HTTPException", "detail": NOT_AUTHENTICATED, "body": "", "errors": ""}
    assert client.get("/livez").status_code == 200
    assert client.get("/openapi.json").status_code == 200
    assert client.get("/sdapi/v1/samplers", auth=("ann", "secret")).status_code == 200
    assert client.get("/sdapi/v1/samplers", headers={"Authorization": "Bearer key-1"}).status_code == 200
    assert client.get("/sdapi/v1/samplers", auth=("ann", "no")).json()["detail"] == WRONG_CREDENTIALS


def test_flags_show_no_secret(latentd_app: AppFactory) -> None:
    client = latentd_app(flags=["--api-auth", "ann:hunter2", "--api-key", "hunter3"])
    for path in ("/sdapi/v1/cmd-flags", "/internal/sysinfo", "/openapi.json"):
        text = client.get(path, auth=("ann", "hunter2")).text
        assert "hunter2" not in text
        assert "hunter3" not in text


class Vouching:
    """A plugin that knows a header of its own, and has one public route."""

    @hookimpl
    def authenticate(self, request: Request) -> str | None:
        return "carol" if request.headers.get("x-pass") == "let me in" else None

    @hookimpl
    def register_routes(self, services: object) -> list[APIRouter]:
        router = APIRouter(prefix="/vouching/v1")

        @router.get("/hello", openapi_extra={"x-public": True})
        async def hello() -> str:
            return "hello"

        @router.get("/who")
        async def who(request: Request) -> str:
            return str(request.state.user)

        return [router]


def test_a_plugin_vouches_and_has_public_routes(latentd_app: AppFactory) -> None:
    client = latentd_app(plugins=[Vouching()])
    assert client.get("/vouching/v1/hello").json() == "hello"
    assert client.get("/vouching/v1/who").status_code == 401
    assert client.get("/vouching/v1/who", headers={"X-Pass": "let me in"}).json() == "carol"


def test_without_users_nothing_is_asked(latentd_app: AppFactory) -> None:
    assert latentd_app().get("/sdapi/v1/samplers").status_code == 200
