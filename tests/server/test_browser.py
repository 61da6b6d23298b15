"""Pages of other sites, seen through the browser of somebody who can reach the server."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from latentd.server.browser import certificate_names
from latentd.testing import AppFactory

WRITES = (
    "/sdapi/v1/interrupt",
    "/sdapi/v1/skip",
    "/sdapi/v1/unload-checkpoint",
    "/sdapi/v1/refresh-checkpoints",
    "/sdapi/v1/refresh-loras",
    "/sdapi/v1/options",
    "/sdapi/v1/txt2img",
    "/sdapi/v1/server-kill",
    "/latentd/v1/jobs",
    "/no/such/route",
)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:7860",
        "127.0.0.1",
        "[::1]:7860",
        "[fe80::1%25eth0]:7860",
        "localhost",
        "LOCALHOST:1",
        "localhost.",
        "sd.localhost:7860",
        "10.1.2.3",
        socket.gethostname(),
        f"{socket.gethostname()}.local:7860",
    ],
)
def test_addresses_and_the_machines_own_names_are_served(client: TestClient, host: str) -> None:
    assert client.get("/sdapi/v1/samplers", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "", "[evil.example]"],
)
def test_any_other_name_is_refused_for_reading_too(client: TestClient, host: str) -> None:
    for path in ("/sdapi/v1/options", "/livez", "/", "/openapi.json"):
        reply = client.get(path, headers={"Host": host})
        assert reply.status_code == 403, path
        assert reply.json()["hint"] == "see --allowed-hosts"


def test_names_that_the_operator_gives(latentd_app: AppFactory) -> None:
    client = latentd_app(flags=["--allowed-hosts", "sd.example.com,.lan", "--server-name", "box.example.net"])
    for host, status in {
        "sd.example.com": 200,
        "SD.example.com:443": 200,
        "box.example.net": 200,
        "nas.lan": 200,
        "lan": 200,
        "example.com": 403,
        "xsd.example.com": 403,
        "evil-lan": 403,
    }.items():
        assert client.get("/livez", headers={"Host": host}).status_code == status, host


def test_who_must_show_credentials_may_come_by_any_name(latentd_app: AppFactory) -> None:
    """A browser that was lured here by another name does not send what it stores for this one."""
    client = latentd_app(flags=["--api-auth", "ann:secret"])
    assert client.get("/sdapi/v1/samplers", headers={"Host": "sd.example.com"}).status_code == 401
    assert (
        client.get("/sdapi/v1/samplers", headers={"Host": "sd.example.com"}, auth=("ann", "secret")).status_code == 200
    )
    strict = latentd_app(flags=["--api-auth", "ann:secret", "--allowed-hosts", "other.example"])
    assert (
        strict.get("/sdapi/v1/samplers", headers={"Host": "sd.example.com"}, auth=("ann", "secret")).status_code == 403
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
@pytest.mark.parametrize("content", ["text/plain", "application/json", "application/x-www-form-urlencoded", ""])
def test_writes_from_a_foreign_page_are_refused_whatever_their_type(
    client: TestClient, headers: dict[str, str], content: str
) -> None:
    for path in WRITES:
        reply = client.post(path, content=b'{"n_rows": 3}', headers={**headers, "Content-Type": content})
        assert reply.status_code == 403, path
        assert reply.json()["hint"] == "see --cors-allow-origins"
    assert client.get("/sdapi/v1/options").json()["n_rows"] == -1
    assert client.delete("/sdapi/v1/options", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost"},
        {"Origin": "http://127.0.0.1:7860", "Host": "127.0.0.1:7860"},
        {"Origin": "https://sd.example.com", "X-Forwarded-Host": "sd.example.com"},
        {"Origin": "https://sd.example.com", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
def test_programs_and_the_servers_own_pages_notice_nothing(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/sdapi/v1/options", json={"n_rows": 3}, headers=headers).status_code == 200
    assert client.post("/sdapi/v1/interrupt", headers=headers).status_code == 200


def test_origins_that_are_allowed_may_write(latentd_app: AppFactory) -> None:
    flags = ["--cors-allow-origins", "https://ui.example", "--cors-allow-origins-regex", r"http://localhost:\d+"]
    client = latentd_app(flags=flags)
    for origin, status in {
        "https://ui.example": 200,
        "http://localhost:3000": 200,
        "http://localhost:3000.evil.example": 403,
        "https://evil.example": 403,
    }.items():
        headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        assert client.post("/sdapi/v1/interrupt", headers=headers).status_code == status, origin


def test_any_origin_is_never_given_the_stored_credentials(latentd_app: AppFactory) -> None:
    client = latentd_app(flags=["--cors-allow-origins", "*", "--api-auth", "ann:secret"])
    headers = {"Origin": "https://evil.example", "Cookie": "a=b"}
    reply = client.get("/livez", headers=headers)
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in reply.headers
    assert client.post("/sdapi/v1/interrupt", headers=headers, auth=("ann", "secret")).status_code == 200


def test_answers_are_neither_framed_nor_sniffed(client: TestClient) -> None:
    for path in ("/", "/docs", "/sdapi/v1/samplers", "/no/such/route"):
        reply = client.get(path)
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-frame-options"] == "DENY"
    refused = client.get("/", headers={"Host": "evil.example"})
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_names_of_the_certificate_are_the_servers(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on this machine")
    certificate = tmp_path / "cert.pem"
    names = "subjectAltName=DNS:sd.example.com,DNS:*.lab.example"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "key.pem"),
            *("-out", certificate, "-subj", "/CN=sd", "-addext", names),
        ],
        check=True,
        capture_output=True,
    )
    assert certificate_names(str(certificate)) == ["sd.example.com", ".lab.example"]
    assert certificate_names(str(tmp_path / "none.pem")) == []
