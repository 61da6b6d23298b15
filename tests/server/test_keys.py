"""Keys of a file: what each allows, and how they are made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fastapi import APIRouter

from latentd.cli import main
from latentd.hookspecs import hookimpl
from latentd.server.keys import Scope, new_key, read_keys, read_scopes
from latentd.testing import AppFactory


class Training:
    """A plugin with a route for administrators, one for readers, and one that says nothing."""

    @hookimpl
    def register_routes(self, services: object) -> list[APIRouter]:
        router = APIRouter(prefix="/training/v1")

        @router.get("/secrets", openapi_extra={"x-scope": "admin"})
        @router.post("/count", openapi_extra={"x-scope": "read"})
        @router.post("/draw")
        async def answer() -> str:
            return "done"

        return [router]


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """A file ``keys`` with a key for each scope; the keys by scope."""
    made = {scope.value: new_key(f"{scope.value}-client", [scope]) for scope in Scope}
    lines = ["# keys of the tests", "", *(line for _, line in made.values())]
    (tmp_path / "keys").write_text("\n".join(lines))
    return {scope: key for scope, (key, _) in made.items()}


@pytest.mark.parametrize(
    ("method", "path", "least"),
    [
        ("GET", "/sdapi/v1/options", "read"),
        ("GET", "/sdapi/v1/progress", "read"),
        ("GET", "/latentd/v1/jobs", "read"),
        ("POST", "/internal/progress", "read"),
        ("POST", "/latentd/v1/tickets", "read"),
        ("POST", "/training/v1/count", "read"),
        ("POST", "/sdapi/v1/txt2img", "generate"),
        ("POST", "/latentd/v1/jobs", "generate"),
        ("POST", "/sdapi/v1/interrupt", "generate"),
        ("POST", "/sdapi/v1/png-info", "generate"),
        ("POST", "/training/v1/draw", "generate"),
        ("POST", "/sdapi/v1/options", "admin"),
        ("POST", "/sdapi/v1/unload-checkpoint", "admin"),
        ("POST", "/sdapi/v1/server-restart", "admin"),
        ("GET", "/internal/sysinfo", "admin"),
        ("GET", "/training/v1/secrets", "admin"),
    ],
)
def test_a_key_does_what_its_scope_allows(
    latentd_app: AppFactory, keys: dict[str, str], method: str, path: str, least: str
) -> None:
    client = latentd_app(plugins=[Training()], flags=["--api-keys-file", "keys", "--api-server-stop"])
    order = ["read", "generate", "admin"]
    for scope, key in keys.items():
        reply = client.request(method, path, json={}, headers={"Authorization": f"Bearer {key}"})
        allowed = order.index(scope) >= order.index(least)
        assert (reply.status_code != 403) == allowed, (scope, reply.text)
        assert reply.status_code != 401
        if not allowed:
            assert reply.json()["detail"] == f"this needs a key with the scope {least!r}"
    assert client.request(method, path, json={}).status_code == 401


def test_overrides_that_stay_are_for_administrators(latentd_app: AppFactory, keys: dict[str, str]) -> None:
    client = latentd_app(flags=["--api-keys-file", "keys"])
    body = {"override_settings": {"n_rows": 3}, "override_settings_restore_afterwards": False}
    for path in ("/sdapi/v1/txt2img", "/latentd/v1/jobs"):
        reply = client.post(path, json=body, headers={"Authorization": f"Bearer {keys['generate']}"})
        assert reply.status_code == 403
        assert "scope 'admin'" in reply.json()["detail"]
        reply = client.post(path, json=body, headers={"Authorization": f"Bearer {keys['admin']}"})
        assert reply.status_code == 404  # no checkpoint
        reply = client.post(
            path, json={**body, "override_settings": {}}, headers={"Authorization": f"Bearer {keys['generate']}"}
        )
        assert reply.status_code == 404


def test_the_command_makes_a_key_that_works(
    latentd_app: AppFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "made"
    assert main(["new-key", "ann", "--scopes", "read", "--file", str(file)]) == 0
    assert main(["new-key", "bob", "--file", str(file)]) == 0
    shown = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines() if line.startswith("the key")]
    assert file.stat().st_mode & 0o077 == 0 or os.name == "nt"
    assert not any(key in file.read_text() for key in shown)
    client = latentd_app(flags=["--api-keys-file", "made"])
    statuses = [
        client.post("/sdapi/v1/interrupt", headers={"Authorization": f"Bearer {key}"}).status_code for key in shown
    ]
    assert statuses == [403, 200]
    assert main(["new-key", "a:b"]) == 2
    assert main(["new-key", "ann", "--scopes", "everything"]) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# none",
        "ann",
        "ann:read",
        "ann:read:short",
        ":read:" + "0" * 64,
        "ann::" + "0" * 64,
        "ann:root:" + "0" * 64,
    ],
)
def test_a_file_that_is_wrong_ends_the_start_and_shows_nothing_of_it(
    latentd_app: AppFactory, tmp_path: Path, text: str
) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ValueError, match="keys") as refused:
        latentd_app(flags=["--api-keys-file", "keys"])
    assert "0" * 64 not in str(refused.value)
    with pytest.raises(ValueError, match="cannot be read"):
        read_keys(tmp_path / "none")


def test_scopes_imply_lesser_ones() -> None:
    assert read_scopes("read, generate") == {Scope.READ, Scope.GENERATE}
