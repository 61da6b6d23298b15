"""Flags, environment variables and COMMANDLINE_ARGS become settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from latentd.settings import Settings, parse_settings


def parsed(*arguments: str, **environment: str) -> Settings:
    return parse_settings(arguments, environment)


def test_without_flags_the_server_is_on_loopback_port_7860() -> None:
    settings = parsed()
    assert (settings.bind_host, settings.bind_port) == ("127.0.0.1", 7860)
    assert settings == Settings()


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (["--listen"], ("0.0.0.0", 7860)),
        (["--nowebui"], ("127.0.0.1", 7861)),
        (["--nowebui", "--port", "9"], ("127.0.0.1", 9)),
        (["--listen", "--server-name", "box"], ("box", 7860)),
    ],
)
def test_the_address_follows_automatic1111(arguments: list[str], address: tuple[str, int]) -> None:
    settings = parsed(*arguments)
    assert (settings.bind_host, settings.bind_port) == address


def test_the_command_line_beats_the_environment_which_beats_commandline_args() -> None:
    settings = parsed("--port", "3", LATENTD_PORT="2", LATENTD_NO_HALF="1", COMMANDLINE_ARGS="--port 1 --medvram")
    assert (settings.port, settings.no_half, settings.medvram) == (3, True, True)
    assert parsed(LATENTD_PORT="2", COMMANDLINE_ARGS="--port 1").port == 2


def test_a_switch_can_be_turned_off_by_a_variable() -> None:
    assert parsed(LATENTD_API_LOG="off", COMMANDLINE_ARGS="--api-log").api_log is False


def test_lists_take_several_values() -> None:
    settings = parsed("--use-cpu", "vae", "unet", "--styles-file", "a.csv", "--styles-file", "b.csv")
    assert settings.use_cpu == ("vae", "unet")
    assert settings.styles_file == ("a.csv", "b.csv")
    assert parsed("--disable-plugin", "a,b", "--disable-plugin", "c").disable_plugin == ("a", "b", "c")


def test_latentd_plugins_may_be_empty_which_is_not_the_same_as_unset() -> None:
    assert parsed().plugins is None
    assert parsed(LATENTD_PLUGINS="").plugins == ()
    assert parsed(LATENTD_PLUGINS="a, b").plugins == ("a", "b")


@pytest.mark.parametrize(
    ("variable", "value"), [("LATENTD_PORT", "many"), ("LATENTD_LISTEN", "perhaps"), ("LATENTD_PRECISION", "double")]
)
def test_a_wrong_variable_is_named(variable: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse_settings([], {variable: value})
    assert stopped.value.code == 2
    assert variable in capsys.readouterr().err


def test_an_abbreviated_flag_is_refused() -> None:
    with pytest.raises(SystemExit):
        parsed("--data", "x")


def test_flags_of_the_launcher_and_the_page_are_accepted_and_named_as_without_effect() -> None:
    settings = parsed("-f", "--xformers", "--skip-torch-cuda-test", "--theme", "dark", "--no-half", "--lyco-dir", "x")
    assert set(settings.without_effect()) == {"--theme", "--skip-torch-cuda-test", "--xformers"}
    assert settings.lyco_dir_backcompat == "x"


def test_users_come_in_pairs() -> None:
    assert parsed("--api-auth", "a:b,c:d").users == {"a": "b", "c": "d"}
    with pytest.raises(ValueError, match="no colon in a password"):
        _ = parsed("--api-auth", "a:b:c").users


def test_open_to_all_means_reachable_without_any_key() -> None:
    assert parsed("--listen").is_open_to_all
    assert not parsed("--listen", "--api-key", "k").is_open_to_all
    assert not parsed("--listen", "--api-auth", "a:b").is_open_to_all
    assert not parsed().is_open_to_all


def test_importing_settings_needs_the_standard_library_alone() -> None:
    code = "import sys, latentd.settings; print([m for m in ('pydantic', 'torch', 'fastapi') if m in sys.modules])"
    root = Path(__file__).parents[2] / "core"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(root)}
    )
    assert done.stdout.strip() == "[]"
