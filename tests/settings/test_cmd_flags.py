"""``GET /sdapi/v1/cmd-flags`` has the keys and types that AUTOMATIC1111 1.8.0 answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from latentd.settings import cmd_flags, parse_settings

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "recorded_cmd_flags.json").read_text())
# How the recorded server was started.
STARTED_WITH = [
    "--skip-torch-cuda-test",
    "--skip-prepare-environment",
    "--skip-version-check",
    "--no-download-sd-model",
    "--ckpt=models/Stable-diffusion/tiny-a.safetensors",
    "--no-half",
    "--precision=full",
    "--clip-models-path=models/CLIP",
    "--disable-nan-check",
    "--use-cpu=all",
    "--port=7863",
    "--api",
    "--nowebui",
    "--server-name=127.0.0.1",
]


def recorded_form(key: str, value: Any, data: str) -> Any:
    """The recording has folders relative to the data folder."""
    if isinstance(value, list):
        return [recorded_form(key, entry, data) for entry in value]
    if value == data:
        return "."
    return value.removeprefix(data + "/").removeprefix("./") if isinstance(value, str) else value


def test_the_body_is_the_recorded_one_for_the_same_command_line(tmp_path: Path) -> None:
    body = cmd_flags(parse_settings(["--data-dir", str(tmp_path), *STARTED_WITH], {}))
    assert {key: recorded_form(key, value, str(tmp_path)) for key, value in body.items()} == {
        **RECORDED,
        "clip_models_path": "models/CLIP",
    }


def test_a_flag_without_default_is_text() -> None:
    body = cmd_flags(parse_settings(["--port", "7861", "--sub-quad-kv-chunk-size", "5", "--no-half-controlnet"], {}))
    assert (body["port"], body["sub_quad_kv_chunk_size"], body["no_half_controlnet"]) == ("7861", "5", "True")
    assert cmd_flags(parse_settings([], {}))["port"] is None


@pytest.mark.parametrize("flag", ["--api-auth", "--gradio-auth", "--ngrok"])
def test_a_secret_is_never_echoed(flag: str) -> None:
    body = cmd_flags(parse_settings([flag, "me:s3cr3t"], {}))
    assert "s3cr3t" not in json.dumps(body)
    assert body[flag.removeprefix("--").replace("-", "_")] == "***"


def test_flags_of_latentd_alone_are_not_listed() -> None:
    body = cmd_flags(parse_settings(["--api-key", "s3cr3t", "--core-only"], {}))
    assert not {"api_key", "core_only", "plugins", "max_queue"} & set(body)
    assert "s3cr3t" not in json.dumps(body)


def test_the_api_is_always_on() -> None:
    assert cmd_flags(parse_settings([], {}))["api"] is True
