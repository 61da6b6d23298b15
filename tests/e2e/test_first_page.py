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
from tests.reference_server import listening


@pytest.mark.skipif(shutil.which("curl") is None, reason="the command that the page shows is one of curl's")
def test_the_command_draws(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with listening(tmp_path / "data", "--plugins", "tinymodel") as url:
        draw_as_told(url, tmp_path)


def draw_as_told(url: str, folder: Path) -> None:
    """Run the command of the page at ``url``, for a small picture, in ``folder``."""
    with urllib.request.urlopen(f"{url}/") as reply:
        page = reply.read().decode()
    commands = [html.unescape(text) for text in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]
    (command,) = [text for text in commands if "txt2img" in text]
    smaller = {'"steps": 20': '"steps": 2', '"width": 128': '"width": 64', '"height": 128': '"height": 64'}
    for said, meant in smaller.items():
        assert said in command
        command = command.replace(said, meant)
    subprocess.run(["sh", "-c", command], cwd=folder, check=True, timeout=120)
    with Image.open(folder / "sunflower.png") as image:
        assert (image.format, image.size) == ("PNG", (64, 64))
