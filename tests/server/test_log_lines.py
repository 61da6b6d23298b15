"""Whatever a client sends, and whatever a file is called, a line of the log is the server's own."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import APIRouter, Request

from latentd.api import hookimpl, name_job
from latentd.cli.log_lines import JsonLines, LogLines, escaped
from latentd.testing import AppFactory

#: A line end of every kind and a terminal's sequences, around what would read as a record.
FORGED = "x\n12:00:00 ERROR   latentd: forged\r\x1b[2J\x1b]0;t\x07\x9b31m\u2028\u2029\x85\x0b\x0c\u202e\x00"
RECORD = re.compile(r"\d\d:\d\d:\d\d [A-Z]+ +[\w.]+: ")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that is logged, as the server writes it, from the lowest level on."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LogLines())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def check(log: io.StringIO) -> int:
    """The number of lines; each is a record that begins as ours do, or the indented part of a traceback."""
    lines = re.split(r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", log.getvalue().removesuffix("\n"))
    for line in lines:
        assert RECORD.match(line) or line.startswith("    "), repr(line)
        assert line.isprintable(), repr(line)
        assert not line.startswith("12:00:00 ERROR   latentd: forged")
    return len(lines)


class Raising:
    """A plugin whose route fails with what the client sent."""

    @hookimpl
    def register_routes(self) -> list[Any]:
        from fastapi import APIRouter

        router = APIRouter(prefix="/raising/v1", tags=["raising"])

        @router.get("/fail")
        def fail(text: str) -> None:
            raise RuntimeError(text)

        return [router]


def test_no_request_forges_a_line(latentd_app: AppFactory, log: io.StringIO) -> None:
    folder: Path = latentd_app.data_dir / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    (folder / f"m{FORGED[:60].replace('/', '')}.safetensors".replace("\0", "")).write_bytes(b"no weights")
    flags = ["--api-log", "--api-auth", "ann:secret"]
    client = latentd_app(flags=flags, plugins=[Raising()])
    client.auth = ("ann", "secret")
    for path in ("/", "/sdapi/v1/", "/raising/v1/fail?text="):
        client.get(path + quote(FORGED))
    for header in ("User-Agent", "Referer", "Accept", "Origin", "X-Forwarded-For"):
        client.post("/sdapi/v1/interrupt", headers={header: FORGED.replace("\0", "").encode("utf-8")})
    client.get("/livez", auth=(FORGED, FORGED))
    wanted = {
        "prompt": FORGED, "sampler_name": FORGED, "scheduler": FORGED, "script_name": FORGED, "styles": [FORGED],
        "force_task_id": FORGED, FORGED: FORGED, "override_settings": {FORGED: FORGED, "sd_model_checkpoint": FORGED},
        "alwayson_scripts": {FORGED: {"args": [FORGED]}}, "hr_upscaler": FORGED, "infotext": FORGED, "enable_hr": True,
    }  # fmt: skip
    for key in wanted:
        client.post("/sdapi/v1/txt2img", json={key: wanted[key]})
    client.post("/sdapi/v1/txt2img", content=f'{{"{FORGED}'.encode())
    client.post("/sdapi/v1/options", json={FORGED: FORGED, "sd_model_checkpoint": FORGED, "n_rows": FORGED})
    client.post("/sdapi/v1/options", json={"samples_filename_pattern": FORGED, "font": FORGED})
    client.post("/sdapi/v1/extra-single-image", json={"image": FORGED, "upscaler_1": FORGED})
    client.post("/sdapi/v1/png-info", json={"image": FORGED})
    client.post("/sdapi/v1/interrogate", json={"image": FORGED, "model": FORGED})
    client.post("/sdapi/v1/refresh-checkpoints")
    assert check(log) > 10
    assert log.getvalue().count("latentd: forged") > 3, "nothing of what was sent is in the log"


def test_errors_with_what_a_client_sent_stay_within_their_traceback(log: io.StringIO) -> None:
    try:
        raise ValueError(FORGED) from KeyError(FORGED)
    except ValueError:
        logging.getLogger("latentd.test").exception("failed over %s", FORGED, stack_info=True)
    assert check(log) > 5


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a cat, 猫 🔴", "a cat, 猫 🔴"),
        ("a\nb\x1b[0m", "a\\nb\\x1b[0m"),
        ("\u202e\ud800\x85", "\\u202e\\ud800\\x85"),
    ],
)
def test_what_can_be_seen_stays(text: str, written: str) -> None:
    assert escaped(text) == written


def test_json_lines_name_the_job_whoever_logs(latentd_app: AppFactory) -> None:
    """A plugin's lines on the worker, the engine's, a request's; a traceback is part of its line."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)

    class Plugin:
        @hookimpl
        def register_routes(self, services: Any) -> list[Any]:
            router = APIRouter()

            def work(control: Any) -> int:
                logging.getLogger("mine").info("at work %s", FORGED, extra={"trace_id": "4bf92f35"})
                try:
                    raise KeyError(FORGED)
                except KeyError:
                    logging.getLogger("mine").exception("failed")
                return 1

            @router.get("/latentd/v1/mine")
            async def mine(request: Request) -> int:
                job = services.submit_work(work, kind="mine", task_id="task(mine)")
                name_job(request, job.id)
                return await job.wait()  # type: ignore[no-any-return]

            return [router]

    try:
        assert latentd_app([Plugin()], ["--api-log", "--log-format", "json"]).get("/latentd/v1/mine").status_code == 200
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    lines = [json.loads(line) for line in stream.getvalue().split("\n")[:-1]]
    mine = [line for line in lines if line["logger"] in ("mine", "latentd.api", "latentd.engine.worker")]
    assert {line.get("job") for line in mine} == {"task(mine)"}
    said, failed = (line for line in mine if line["logger"] == "mine")
    assert FORGED in said["message"]
    assert failed["traceback"].startswith("Traceback")
    assert (said["trace_id"], "trace_id" in failed) == ("4bf92f35", False)
    assert [(line["status"], line["seconds"] < 60) for line in mine if line["logger"] == "latentd.api"] == [(200, True)]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said["time"])
