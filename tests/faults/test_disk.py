"""A server that is killed while it writes, on a disk that is full, and in a folder that cannot be written."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from latentd.server.app import create_app
from latentd.settings import parse_settings
from tests.reference_server import ReferenceServer, listening, started

resource = pytest.importorskip("resource", reason="POSIX's limits")
Call = Callable[..., tuple[int, Any]]
PICTURE = {"prompt": "a red circle", "steps": 1, "width": 64, "height": 64, "save_images": True}
SCRATCH = re.compile(r"\.latentd-[0-9a-f]{16}\.tmp")


def check_whole(data: Path) -> int:
    """How many pictures were saved; each is whole, options are JSON, and nothing else half-written bears its name."""
    count = 0
    for path in data.rglob("*"):
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
                assert image.info["parameters"].startswith("a red circle")
            count += 1
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.is_file() and path.name.endswith(".tmp"):
            assert SCRATCH.fullmatch(path.name)
    assert not list(data.rglob("*.broken"))
    return count


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.05, 0.33])
def test_after_kill_9_every_file_is_whole_and_the_server_starts(tmp_path: Path, delay: float) -> None:
    stop = threading.Event()
    with started(tmp_path) as running:
        server = ReferenceServer(running.url, tmp_path)
        assert server.call("POST", "/sdapi/v1/txt2img", PICTURE)[0] == 200

        def write(path: str, bodies: Iterator[Any]) -> None:
            while not stop.is_set():
                try:
                    server.call("POST", path, next(bodies), timeout=20)
                except (OSError, urllib.error.URLError):
                    return

        numbers = iter(range(10**6))
        options = ({"samples_filename_pattern": f"[seed]-{number}-{'x' * 4000}"} for number in numbers)
        pictures = ({**PICTURE, "batch_size": 4} for _ in numbers)
        writers = [
            threading.Thread(target=write, args=("/sdapi/v1/options", options)),
            threading.Thread(target=write, args=("/sdapi/v1/txt2img", pictures)),
        ]
        for writer in writers:
            writer.start()
        time.sleep(1 + delay)
        running.process.kill()
        running.process.wait()
        stop.set()
        for writer in writers:
            writer.join(30)
    assert check_whole(tmp_path) >= 1
    with listening(tmp_path) as url:
        server = ReferenceServer(url, tmp_path)
        status, kept = server.call("GET", "/sdapi/v1/options")
        assert status == 200
        assert re.match(r"\[seed\]-\d+-x{4000}$", kept["samples_filename_pattern"])


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """A small file system in ``folder``; without the rights for it the test is skipped."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip("no right to mount here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def serving(data: Path) -> Iterator[Call]:
    """What sends a request, (method, path, body), to a server on ``data`` in this process: (status, JSON body)."""
    settings = parse_settings(["--data-dir", str(data), "--plugins", "tinymodel"], environment={})
    with TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False) as client:

        def call(method: str, path: str, body: object = None) -> tuple[int, Any]:
            reply = client.request(method, path, json=body)
            return reply.status_code, reply.json()

        yield call


def check_serving(call: Call) -> None:
    """Pictures come with a word on what was not saved; options that cannot be kept are a 507."""
    status, reply = call("POST", "/sdapi/v1/txt2img", PICTURE)
    assert status == 200, reply
    assert len(reply["images"]) == 1
    told = json.loads(reply["info"]).get("warnings", [])
    assert any("save" in line for line in told), told
    status, reply = call("POST", "/sdapi/v1/options", {"samples_filename_pattern": "[seed]" + "x" * 5000})
    assert status == 507, reply
    assert call("GET", "/sdapi/v1/options")[0] == 200
    assert call("GET", "/livez")[0] == 200


def fill(path: Path) -> None:
    """Write into ``path`` until there is no space left."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017


def test_a_full_disk_loses_no_picture_and_breaks_no_file(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with mounted(data, "4m"), serving(data) as call:
        assert call("POST", "/sdapi/v1/txt2img", PICTURE)[0] == 200
        assert call("POST", "/sdapi/v1/options", {"CLIP_stop_at_last_layers": 2})[0] == 200
        filler = data / "filler"
        fill(filler)
        check_serving(call)
        check_whole(data)
        assert json.loads((data / "config.json").read_bytes())["CLIP_stop_at_last_layers"] == 2
        filler.unlink()
        before = check_whole(data)
        assert call("POST", "/sdapi/v1/options", {"CLIP_stop_at_last_layers": 1})[0] == 200
        assert call("POST", "/sdapi/v1/txt2img", PICTURE)[0] == 200
        assert check_whole(data) == before + 1


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_loses_no_picture_and_breaks_no_file(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))

    with listening(tmp_path, before=limit) as url:
        check_serving(ReferenceServer(url, tmp_path).call)
    assert check_whole(tmp_path) == 0


def test_a_file_system_that_is_read_only_still_serves(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with mounted(data, "4m"):
        subprocess.run(["mount", "-o", "remount,ro", data], check=True)
        with serving(data) as call:
            check_serving(call)


def test_files_in_place_of_folders_and_folders_in_place_of_files_still_serve(tmp_path: Path) -> None:
    for name in ("output", "outputs", "log", "cache", "embeddings"):
        (tmp_path / name).write_text("no folder", encoding="utf-8")
    for name in ("config.json", "styles.csv", "params.txt"):
        (tmp_path / name).mkdir()
    with serving(tmp_path) as call:
        check_serving(call)
    assert os.listdir(tmp_path / "config.json") == []  # noqa: PTH208
