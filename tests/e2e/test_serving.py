"""A server behind TLS, credentials and a prefix, over real sockets."""

from __future__ import annotations

import base64
import http.client
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.reference_server import listening

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(key, certificate) for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    return key, cert


@pytest.fixture(scope="module")
def server(certificate: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with all three."""
    key, cert = certificate
    flags = ["--tls-keyfile", str(key), "--tls-certfile", str(cert), "--api-auth", "me:secret", "--api-key", "k1"]
    further = ["--subpath", "sd", "--cors-allow-origins", "https://a.example", "--skip-load-model-at-start"]
    with listening(tmp_path_factory.mktemp("guarded"), *flags, *further) as url:
        yield url


def _ask(server: str, cert: Path, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    url = urlsplit(server)
    context = ssl.create_default_context(cafile=str(cert))
    connection = http.client.HTTPSConnection(url.hostname or "", url.port, context=context, timeout=30)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    reply = connection.getresponse()
    reply.body = reply.read()  # type: ignore[attr-defined]
    connection.close()
    return reply


BASIC = "Basic " + base64.b64encode(b"me:secret").decode()


def test_the_address_says_https(server: str) -> None:
    assert server.startswith("https://127.0.0.1:")


def test_credentials(server: str, certificate: tuple[Path, Path]) -> None:
    cert = certificate[1]
    refused = _ask(server, cert, "/sdapi/v1/samplers")
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Basic")
    assert (
        _ask(server, cert, "/sdapi/v1/samplers", Authorization="Basic " + base64.b64encode(b"me:x").decode()).status
        == 401
    )
    assert _ask(server, cert, "/sdapi/v1/samplers", Authorization=BASIC).status == 200
    assert _ask(server, cert, "/sdapi/v1/samplers", Authorization="Bearer k1").status == 200
    assert _ask(server, cert, "/livez").status == 200
    shown = _ask(server, cert, "/sdapi/v1/cmd-flags", Authorization=BASIC).body  # type: ignore[attr-defined]
    assert b"secret" not in shown
    assert b"k1" not in shown


def test_a_prefix_stripped_or_not(server: str, certificate: tuple[Path, Path]) -> None:
    cert = certificate[1]
    for path in ("/sdapi/v1/samplers", "/sd/sdapi/v1/samplers"):
        assert _ask(server, cert, path, Authorization=BASIC).status == 200
    assert b"/sd/openapi.json" in _ask(server, cert, "/docs").body  # type: ignore[attr-defined]
    assert _ask(server, cert, "/sd/docs").status == 200


def test_browsers_of_the_allowed_origin(server: str, certificate: tuple[Path, Path]) -> None:
    cert = certificate[1]
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}
    allowed = _ask(server, cert, "/sdapi/v1/txt2img", "OPTIONS", Origin="https://a.example", **asked)
    assert (allowed.status, allowed.headers["Access-Control-Allow-Origin"]) == (200, "https://a.example")
    other = _ask(server, cert, "/sdapi/v1/txt2img", "OPTIONS", Origin="https://b.example", **asked)
    assert other.headers["Access-Control-Allow-Origin"] is None
