"""A server with the plugin and a tiny checkpoint, and receivers on loopback."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from latentd_operations import Operations

from latentd.testing import AppFactory, tiny_models

SMALL: dict[str, Any] = {"prompt": "a red circle", "steps": 2, "width": 64, "height": 64, "seed": 3}
SECRET = "s3cret"


class Receiver:
    """A web server that keeps what it is sent; it can be stopped and started again at the same port."""

    def __init__(self) -> None:
        self.taken: list[SimpleNamespace] = []
        self.answers: list[int] = []
        self.port = 0
        self._server: http.server.ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=private"

    def start(self) -> None:
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.answers.pop(0) if receiver.answers else 200
                if status == 200:
                    receiver.taken.append(SimpleNamespace(headers=self.headers, body=body, path=self.path))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *said: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def jobs(self) -> list[str]:
        return [json.loads(call.body)["job"]["id"] for call in self.taken]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    found.start()
    yield found
    found.stop()


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.02)


@pytest.fixture(name="until")
def _until() -> Callable[..., None]:
    return until


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "one.safetensors"
    tiny_models.write(path, tiny_models.checkpoint("sd1", vae_widths=tiny_models.EIGHTH))
    return path


@pytest.fixture
def serve(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """``serve(option=value)``: a client of a new server whose config.json has these options."""
    monkeypatch.setenv("LATENTD_WEBHOOK_SECRET", SECRET)
    factory = AppFactory(tmp_path)

    def start(*flags: str, plugins: Sequence[object] = (), **options: Any) -> Any:
        models = tmp_path / "models/Stable-diffusion"
        models.mkdir(parents=True)
        (models / "one.safetensors").symlink_to(checkpoint)
        (tmp_path / "config.json").write_text(json.dumps({"randn_source": "CPU", **options}))
        return factory([Operations(), *plugins], flags)

    yield start
    factory.close()
