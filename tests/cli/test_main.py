"""Which command runs, and what help costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from latentd import __version__
from latentd.cli.main import COMMANDS

HEAVY = ("torch", "fastapi", "pydantic", "pluggy", "numpy", "PIL", "uvicorn")


def imported_by(code: str) -> list[str]:
    """Heavy modules that ``code`` has imported, in a fresh process."""
    report = f"{code}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    core = Path(__file__).parents[2] / "core"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, env={"PYTHONPATH": str(core)})
    found: list[str] = eval(done.stderr.splitlines()[-1])
    return found


def test_help_names_every_command(latentd: Any) -> None:
    done = latentd("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("code", ["import latentd", "from latentd.cli import main; main(['--help'])"])
def test_neither_import_nor_help_import_anything_heavy(code: str) -> None:
    assert imported_by(code) == []


def test_the_help_of_serve_imports_no_server() -> None:
    code = "from latentd.cli import main\ntry:\n    main(['serve', '--help'])\nexcept SystemExit:\n    pass"
    assert imported_by(code) == []


def test_a_server_with_every_plugin_is_made_without_torch(tmp_path: Path) -> None:
    """It listens before torch is imported, and the first GET does not wait for that."""
    code = (
        "from latentd.server.services import create_services\nfrom latentd.settings import parse_settings\n"
        f"services = create_services(parse_settings(['--data-dir', {str(tmp_path)!r}], environment={{}}))\n"
        "assert len(services.registry.scripts) > 5"
    )
    assert "torch" not in imported_by(code)


def test_version(latentd: Any) -> None:
    assert latentd("--version").stdout.strip() == f"latentd {__version__}"


def test_an_unknown_command_is_answered_with_a_near_one(latentd: Any) -> None:
    done = latentd("generat")
    assert done.returncode == 2
    assert "did you mean 'generate'" in done.stderr


def test_flags_alone_start_the_server(latentd: Any) -> None:
    done = latentd("--core-only", "--require-plugin", "nobody-has-this")
    assert done.returncode == 2
    assert "nobody-has-this: not installed" in done.stderr


def test_a_port_that_is_taken_is_said_in_one_sentence(latentd: Any) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = latentd("serve", "--core-only", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "choose another with --port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_malformed_flag_is_said_in_one_sentence(latentd: Any) -> None:
    done = latentd("serve", "--core-only", "--port", "0", "--api-auth", "me:too:many")
    assert done.returncode == 2
    assert "no colon in a password" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--prot", "1"], "there is no flag --prot: did you mean '--port'"),
        (["serve", "--xyzzy=1"], "there is no flag --xyzzy"),
        (["serve", "--port", "many"], "argument --port: invalid int value: 'many'"),
        (["serve", "data"], "'data' is one argument too many"),
        (["generate", "a cat", "--stepz", "3"], "there is no flag --stepz: did you mean '--steps'"),
        (["generate"], "required: prompt"),
        (["models", "--jsn"], "there is no flag --jsn: did you mean '--json'"),
        (["plugins", "--traceback"], "there is no flag --traceback: did you mean '--tracebacks'"),
        (["new-plugin", "x", "--in", "y"], "there is no flag --in: did you mean '--into'"),
        (["serve", "--data-dir", "nowhere"], "--data-dir nowhere: there is no such folder"),
        (["generate", "a cat", "--data-dir", "nowhere"], "--data-dir nowhere: there is no such folder"),
        (["serve", "--tls-keyfile", "key.pem"], "--tls-keyfile needs --tls-certfile too"),
        (["serve", "--tls-certfile", "cert.pem"], "--tls-certfile needs --tls-keyfile too"),
        (["serve", "--tls-keyfile", "k", "--tls-certfile", "c"], "--tls-keyfile k: there is no such file"),
        (["serve", "--plugins", "nobody-has-this"], "--plugins nobody-has-this: there is no such plugin"),
        (["serve", "--disable-plugin", "nobody-has-this"], "--disable-plugin nobody-has-this: there is no such plugin"),
        (["serve", "--core-only", "--cors-allow-origins-regex", "("], "--cors-allow-origins-regex"),
        (["generate", "a cat", "-o", "cat.xyz"], "pictures are written as .png"),
        (["generate", "a cat", "-o", "cat"], "pictures are written as .png"),
        (["generate", "a cat", "-o", "cat.webp", "--width", "20000"], ".webp holds no picture of 20000x512"),
    ],
)
def test_wrong_flags_end_with_status_2_and_one_line(latentd: Any, arguments: list[str], words: str) -> None:
    done = latentd(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_certificate_that_is_none_is_said_in_one_sentence(latentd: Any, tmp_path: Path) -> None:
    for name in ("key.pem", "cert.pem"):
        (tmp_path / name).write_text("nothing of the kind")
    done = latentd("serve", "--core-only", "--port", "0", "--tls-keyfile", "key.pem", "--tls-certfile", "cert.pem")
    assert done.returncode == 2
    assert "--tls-keyfile and --tls-certfile: " in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_wrong_variable_is_said_in_one_line(latentd: Any) -> None:
    done = latentd("serve", COMMANDLINE_ARGS="--medvran")
    assert done.returncode == 2
    assert "there is no flag --medvran: did you mean '--medvram'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "given", [",", " ", ":", "ada", "ada:", ":secret", "a:b:c", "ada:secret,", "ada:one,ada:two", ""]
)
@pytest.mark.parametrize("source", ["flag", "environment"])
def test_a_server_that_was_meant_to_be_closed_is_never_open(
    latentd: Any, monkeypatch: pytest.MonkeyPatch, source: str, given: str
) -> None:
    flags = ["--api-auth", given] if source == "flag" else []
    if source == "environment":
        monkeypatch.setenv("LATENTD_API_AUTH", given)
    done = latentd("serve", "--core-only", "--port", "0", *flags)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "secret" not in done.stderr


@pytest.mark.parametrize("given", ["", " ", ","])
def test_an_empty_key_is_no_key(latentd: Any, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("LATENTD_API_KEY", given)
    assert latentd("serve", "--core-only", "--port", "0").returncode == 2
    monkeypatch.delenv("LATENTD_API_KEY")
    assert given == "," or latentd("serve", "--core-only", "--port", "0", "--api-key", given).returncode == 2


def test_a_reader_may_go_away(latentd: Any, tmp_path: Path) -> None:
    """As in ``latentd plugins | head``."""
    command = [sys.executable, "-m", "latentd", "plugins", "--core-only"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "core")}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 1
    process.stderr.close()
