"""The core with no plugin installed: it imports, starts and answers, and what plugins would bring is empty. For CI."""

from __future__ import annotations

import socket
import sys
import tempfile
from importlib.metadata import entry_points

from server_process import call, running_server

EMPTY = ("sd-models", "face-restorers", "hypernetworks")


def main() -> int:
    """0 when all is as it should be."""
    installed = list(entry_points(group="latentd"))
    assert not installed, f"plugins are installed: {installed}"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as data, running_server(address, ["--port", str(port), "--data-dir", data]):
        for name in EMPTY:
            answer = call(address, f"/sdapi/v1/{name}")
            assert answer == [], f"{name}: {answer}"
        assert len(call(address, "/sdapi/v1/realesrgan-models")) == 6  # a list of names that AUTOMATIC1111 always has
        assert [row["name"] for row in call(address, "/sdapi/v1/upscalers")] == ["None", "Lanczos", "Nearest"]
        assert len(call(address, "/sdapi/v1/samplers")) >= 31
        assert all(row["builtin"] for row in call(address, "/latentd/v1/plugins")["plugins"])
    print("the core alone starts and answers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
