"""The files of deploy/: the Dockerfile's lines, compose, the unit; nginx is really run where it is installed."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.reference_server import listening
from tools.dockerfile_lines import Image, Line, lines_of, read_lines

from latentd.settings.parse import flags_parser

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"


@pytest.mark.parametrize("target", ["core", "full"])
def test_every_line_of_the_dockerfile_is_sound(target: str) -> None:
    """What is copied exists and is not ignored, what is run is shell, the last user is not root."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    user = "root"
    lines = lines_of(read_lines(DOCKERFILE), target)
    for line in lines:
        if line.name == "COPY":
            for source in line.rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignored or f"!{source.partition('/')[0]}" in ignored, source
        elif line.name == "RUN":
            subprocess.run(["sh", "-n", "-c", line.rest], check=True)
        elif line.name == "USER":
            user = line.rest
    assert user == "latentd"
    assert {"HEALTHCHECK", "ENTRYPOINT", "VOLUME", "EXPOSE"} <= {line.name for line in lines}
    entry = next(line for line in lines if line.name == "ENTRYPOINT")
    command = next(line for line in lines if line.name == "CMD")
    words = [*json.loads(entry.rest), *json.loads(command.rest)]
    assert words[:2] == ["latentd", "serve"]
    flags_parser("latentd serve").parse_args(words[2:])


def test_the_lines_run_as_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small Dockerfile of the same instructions; the real one takes minutes (tools/dockerfile_lines.py)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file.txt").write_text("copied")
    (tmp_path / "Dockerfile").write_text(
        "# a comment\nARG BASE=x\nFROM ${BASE} AS base\nARG WORD=one\nENV PLACE=/data/place\nWORKDIR /src\n"
        "RUN useradd someone\nCOPY a ./b\nFROM base AS one\n"
        "RUN mkdir -p $PLACE && \\\n    echo $WORD > /data/place/said\n"
        'HEALTHCHECK --timeout=5s CMD ["true"]\n'
    )
    image = Image(tmp_path / "root", {"WORD": "two"})
    for line in lines_of(read_lines(tmp_path / "Dockerfile"), "one"):
        image.carry_out(line)
    assert (tmp_path / "root/src/b/file.txt").read_text() == "copied"
    assert (tmp_path / "root/data/place/said").read_text() == "two\n"
    assert image.health == ["true"]
    with pytest.raises(subprocess.CalledProcessError):
        image.carry_out(Line("RUN", "false && true"))


def test_compose_and_the_unit_name_what_exists() -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["latentd"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == DOCKERFILE
    lines_of(read_lines(DOCKERFILE), service["build"]["target"])
    unit = (DEPLOY / "systemd/latentd.service").read_text()
    command = re.search(r"^ExecStart=/opt/latentd/bin/latentd serve (.*)$", unit, re.MULTILINE)
    assert command is not None
    flags_parser("latentd serve").parse_args(command[1].split())
    if shutil.which("systemd-analyze"):
        done = subprocess.run(
            ["systemd-analyze", "verify", str(DEPLOY / "systemd/latentd.service")],
            capture_output=True,
            text=True,
            check=False,
        )
        # The program itself is not installed here.
        said = [
            line for line in done.stderr.splitlines() if "latentd.service" in line and "is not executable" not in line
        ]
        assert not said, said


# --- nginx -----------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server behind nginx under the configuration, with ports and certificate of the test."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None or shutil.which("openssl") is None:
        pytest.skip("needs nginx and openssl (Debian: nginx-light, openssl), which CI installs")
    folder = tmp_path_factory.mktemp("nginx")
    key, certificate = folder / "privkey.pem", folder / "fullchain.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    port = free_port()
    flags = ("--subpath", "sd", "--plugins", "tinymodel", "--allowed-hosts", "sd.example.org", "--api-key", "secret")
    with listening(tmp_path_factory.mktemp("data"), *flags) as url:
        text = (DEPLOY / "nginx/latentd.conf").read_text()
        text = text.replace("127.0.0.1:7860", url.removeprefix("http://")).replace("443 ssl", f"127.0.0.1:{port} ssl")
        text = text.replace("/etc/ssl/latentd", str(folder))
        version = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True).stderr
        if tuple(map(int, re.findall(r"\d+", version)[:3])) < (1, 25, 1):
            # The older spelling of the same.
            text = text.replace("    http2 on;\n", "").replace(" ssl;", " ssl http2;", 1)
        main = folder / "nginx.conf"
        main.write_text(
            f"daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\nhttp {{\naccess_log off;\n"
            + "".join(
                f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            + text
            + "}\n"
        )
        server = subprocess.Popen([nginx, "-p", str(folder), "-c", str(main)], stderr=subprocess.PIPE, text=True)
        try:
            yield f"https://127.0.0.1:{port}/sd"
        finally:
            server.terminate()
            server.wait(20)


def ask(url: str, body: Any = None, **headers: str) -> tuple[int, bytes, Any]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    given = {"Host": "sd.example.org", "Authorization": "Bearer secret", "Content-Type": "application/json", **headers}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, given)
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=120, context=context) as reply:
                return reply.status, reply.read(), reply.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers
        except urllib.error.URLError:  # nginx is not there yet
            time.sleep(0.1)
    raise AssertionError(url)


def test_nginx_serves_it_with_tls_below_a_prefix(proxied: str) -> None:
    status, body, headers = ask(f"{proxied}/sdapi/v1/samplers")
    assert (status, json.loads(body)[0]["name"] != "") == (200, True)
    assert "nginx" in headers["Server"]
    assert ask(f"{proxied}/sdapi/v1/samplers", Authorization="Bearer wrong")[0] == 401
    small = {"prompt": "a red circle", "steps": 2, "width": 64, "height": 64, "force_task_id": "behind"}
    status, body, headers = ask(f"{proxied}/sdapi/v1/txt2img", small)
    assert (status, len(json.loads(body)["images"]), headers["X-Latentd-Job"]) == (200, 1, "behind")
    document = json.loads(ask(f"{proxied}/latentd/v1/jobs/behind")[1])
    assert document["images"][0]["url"] == "/sd/latentd/v1/jobs/behind/images/0"
    root = proxied.removesuffix("/sd")
    assert ask(root + document["images"][0]["url"])[1].startswith(b"\x89PNG")
    events = ask(f"{proxied}/latentd/v1/jobs/behind/events")
    assert b"event: completed" in events[1]


def test_nginx_lets_large_bodies_pass_and_says_where_the_prefix_is(proxied: str) -> None:
    picture = "A" * (20 << 20)
    status, body, _ = ask(f"{proxied}/sdapi/v1/img2img", {"init_images": [picture]})
    assert (status, b"Invalid encoded image" in body) == (422, True)
    moved = ask(proxied)
    assert (moved[0], moved[1].lstrip()[:1]) != (404, b"")
