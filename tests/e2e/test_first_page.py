"""The command that the first page tells draws a picture."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest
from PIL import Image
from tests.reference_server import ReferenceServer


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_command_draws(reference_server: ReferenceServer, tmp_path: Path) -> None:
    with urllib.request.urlopen(f"{reference_server.url}/") as reply:
        page = reply.read().decode()
    commands = [html.unescape(text) for text in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]
    (command,) = [text for text in commands if "txt2img" in text]
    smaller = {'"steps": 20': '"steps": 2', '"width": 512': '"width": 64', '"height": 512': '"height": 64'}
    for said, meant in smaller.items():
        assert said in command
        command = command.replace(said, meant)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, timeout=120)
    with Image.open(tmp_path / "sunflower.png") as image:
        assert (image.format, image.size) == ("PNG", (64, 64))
