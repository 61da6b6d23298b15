"""What ``make run`` starts ends with it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_too(tmp_path: Path, end: signal.Signals) -> None:
    """Sent to the tool alone, as make sends SIGTERM; Ctrl-C reaches both."""
    command = [
        sys.executable,
        str(ROOT / "tools/first_picture.py"),
        "0",
        "--data-dir",
        str(tmp_path),
        "--plugins",
        "tinymodel",
    ]
    tool = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert tool.stderr is not None
    try:
        url = next(found[1] for line in tool.stderr if (found := re.search(r"listens on (http\S+)", line)))
        with urllib.request.urlopen(f"{url}/livez", timeout=30) as reply:
            assert reply.status == 200
        tool.send_signal(end)
        tool.stderr.read()
        assert tool.wait(60) == 0
    finally:
        tool.kill()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{url}/livez", timeout=5)
