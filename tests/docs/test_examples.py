"""The pages' Python runs: each named block is written to a file, and the tests among them are run."""

from __future__ import annotations

import base64
import importlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.reference_server import ReferenceServer

from latentd.testing import AppFactory

ROOT = Path(__file__).parents[2]
GUIDES = (
    "tutorial/ten-line-plugin.md",
    "how-to/write-a-sampler.md",
    "how-to/write-an-upscaler.md",
    "how-to/write-a-script.md",
    "how-to/hook-into-a-generation.md",
)
_BLOCK = re.compile(r"```python\n# (\w+\.py)\n(.*?)```", re.DOTALL)


def blocks(page: str) -> dict[str, str]:
    """File name → text of the page's named Python blocks."""
    return dict(_BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def guides_report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of all guides' tests, run in a process of their own with a line for each."""
    folder = tmp_path_factory.mktemp("guides")
    for page in GUIDES:
        for name, text in blocks(page).items():
            assert not (folder / name).exists(), "another guide's file"
            (folder / name).write_text(text, encoding="utf-8")
    path = f"import sys; sys.path[:0] = [{str(ROOT / 'core')!r}, {str(folder)!r}]; "
    code = path + f"import pytest; pytest.main(['-q', '-rA', '-p', 'no:cacheprovider', {str(folder)!r}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("page", GUIDES)
def test_a_guides_plugin_passes_the_guides_own_test(page: str, guides_report: str) -> None:
    found = blocks(page)
    tests = [name for name in found if name.startswith("test_")]
    assert tests
    assert len(found) == 2
    for name in tests:
        outcomes = set(re.findall(rf"^(\w+) {re.escape(name)}\b", guides_report, re.MULTILINE))
        assert outcomes == {"PASSED"}, guides_report


def test_the_job_that_is_followed_completes(reference_server: ReferenceServer, tmp_path: Path) -> None:
    program = blocks("how-to/jobs.md")["follow.py"].replace('"steps": 20', '"steps": 2, "width": 64, "height": 64')
    (tmp_path / "follow.py").write_text(program, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "follow.py"), reference_server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    events = re.findall(r"^event: (\w+)$", done.stdout, re.MULTILINE)
    assert events[-1] == "completed"


def test_the_grey_plugin_takes_the_colour_out(
    reference_data: Path, latentd_app: AppFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "latentd_grey.py").write_text(blocks("how-to/hook-into-a-generation.md")["latentd_grey.py"])
    monkeypatch.syspath_prepend(str(tmp_path))
    (latentd_app.data_dir / "models").symlink_to(reference_data / "models")
    client = latentd_app(plugins=[importlib.import_module("latentd_grey")])
    body = {"prompt": "a cat", "steps": 2, "width": 64, "height": 64, "seed": 1}

    def draw(**options: bool) -> tuple[bool, str]:
        answer = client.post("/sdapi/v1/txt2img", json=body | {"override_settings": options}).json()
        with Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))) as picture:
            red, green, blue = picture.split()
            is_grey = red.tobytes() == green.tobytes() == blue.tobytes()
        return is_grey, json.loads(answer["info"])["infotexts"][0]

    is_grey, text = draw()
    assert not is_grey
    assert "Grey" not in text
    is_grey, text = draw(grey_pictures=True)
    assert is_grey
    assert ", Grey: True" in text


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tutorial speaks through curl")
def test_the_tutorials_commands_draw_and_read(reference_server: ReferenceServer, tmp_path: Path) -> None:
    text = (ROOT / "docs/tutorial/first-picture.md").read_text(encoding="utf-8")
    text = text.replace("http://127.0.0.1:7860", reference_server.url).replace('"steps": 20', '"steps": 2')
    commands = [
        block for block in re.findall(r"```console\n\$ (.*?)```", text, re.DOTALL) if reference_server.url in block
    ]
    assert len(commands) == 3
    for draw in commands[:2]:
        _shell(draw, tmp_path)
        with Image.open(tmp_path / "next.png") as picture:
            assert picture.size == (128, 128)
        (tmp_path / "next.png").rename(tmp_path / "last.png")
    (tmp_path / "last.png").rename(tmp_path / "next.png")
    assert _shell(commands[2], tmp_path).startswith("a sunflower\nSteps: 2, ")


def _shell(command: str, folder: Path) -> str:
    """What ``command`` prints, run in ``folder`` with this Python as ``python3``."""
    command = command.replace("python3 ", f"{sys.executable} ")
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=120, cwd=folder)
    return done.stdout


def test_the_ten_line_plugin_has_ten_lines() -> None:
    text = blocks("tutorial/ten-line-plugin.md")["latentd_hello.py"]
    assert len([line for line in text.splitlines() if line.strip()]) <= 10


def test_other_named_blocks_compile() -> None:
    count = 0
    for path in (ROOT / "docs").rglob("*.md"):
        for name, text in _BLOCK.findall(path.read_text(encoding="utf-8")):
            compile(text, name, "exec")
            count += 1
    assert count >= 8
