"""The bundle that is committed is what the sources give; the sources have the types that they say."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "plugins/web/page"
STATIC = ROOT / "plugins/web/src/latentd_web/static"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(
    NODE is None or not (PAGE / "node_modules/esbuild").exists(),
    reason="needs node, and what `npm ci --prefix plugins/web/page` installs (`make env` does where npm is)",
)


def run(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], cwd=PAGE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["app.js", "app.css"])
def test_the_committed_bundle_is_that_of_the_sources(tmp_path: Path, name: str) -> None:
    assert NODE is not None
    run(NODE, "build.mjs", tmp_path)
    assert (tmp_path / name).read_text() == (STATIC / name).read_text(), "npm run build --prefix plugins/web/page"


def test_the_sources_have_the_types_that_they_say() -> None:
    run("node_modules/.bin/tsc", "--noEmit")
    assert [
        path for path in (PAGE / "src").rglob("*.ts*") if "@ts-" in path.read_text() or ": any" in path.read_text()
    ] == []
