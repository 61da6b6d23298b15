"""The core with no plugin installed: it imports, starts and answers, and what plugins would bring is empty. For CI."""

from __future__ import annotations

import sys
import tempfile
from importlib.metadata import entry_points

from server_process import call, server_process

EMPTY = ("sd-models", "face-restorers", "hypernetworks")


def main() -> int:
    """0 when all is as it should be."""
    installed = list(entry_points(group="latentd"))
    assert not installed, f"plugins are installed: {installed}"
    with tempfile.TemporaryDirectory() as data, server_process("--data-dir", data, echo=True) as server:
        for name in EMPTY:
            answer = call(server.url, f"/sdapi/v1/{name}")
            assert answer == [], f"{name}: {answer}"
        assert len(call(server.url, "/sdapi/v1/realesrgan-models")) == 6
        assert [row["name"] for row in call(server.url, "/sdapi/v1/upscalers")] == ["None", "Lanczos", "Nearest"]
        assert len(call(server.url, "/sdapi/v1/samplers")) >= 31
        assert all(row["builtin"] for row in call(server.url, "/latentd/v1/plugins")["plugins"])
    print("the core alone starts and answers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
