"""What the tests send, and what comes back."""

from __future__ import annotations

import base64
import io
import socket
import threading
import time

import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

KEY = "sk-test"


def png(image: Image.Image) -> bytes:
    """The file's bytes."""
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def picture(b64: str) -> Image.Image:
    """The picture in base64."""
    return Image.open(io.BytesIO(base64.b64decode(b64)))


class listening:  # noqa: N801 - used as a function
    """The port at which uvicorn serves the application of a test client, which has started it."""

    def __init__(self, client: TestClient) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._server = uvicorn.Server(uvicorn.Config(client.app, lifespan="off", log_level="warning"))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        port: int = self._socket.getsockname()[1]
        return port

    def __exit__(self, *ended: object) -> None:
        self._server.should_exit = True
        self._thread.join(20)
