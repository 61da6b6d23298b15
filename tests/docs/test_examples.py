"""The pages' Python runs: each named block is written to a file, and the tests among them are run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"```python\n# (\w+\.py)\n(.*?)```", re.DOTALL)


def blocks(page: str) -> dict[str, str]:
    """File name → text of the page's named Python blocks."""
    return dict(_BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "page",
    [
        "tutorial/ten-line-plugin.md",
        "how-to/write-a-sampler.md",
        "how-to/write-an-upscaler.md",
        "how-to/write-a-script.md",
    ],
)
def test_a_guides_plugin_passes_the_guides_own_test(page: str, tmp_path: Path) -> None:
    found = blocks(page)
    tests = [name for name in found if name.startswith("test_")]
    assert tests
    assert len(found) == 2
    for name, text in found.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    path = f"import sys; sys.path[:0] = [{str(ROOT / 'core')!r}, {str(tmp_path)!r}]; "
    code = path + f"import pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', {str(tmp_path)!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


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
