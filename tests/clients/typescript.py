"""TypeScript programs: compiled with all checks, and run with node."""

from __future__ import annotations

import io
import shutil
from base64 import b64decode
from pathlib import Path
from textwrap import dedent

import pytest
from PIL import Image
from tests.clients.conftest import run

NODE = shutil.which("node")
MODULES = Path(__file__).parent / "node" / "node_modules"
needs_typescript = pytest.mark.skipif(
    NODE is None or not (MODULES / ".bin" / "tsc").exists(),
    reason="needs node, and what `npm ci --prefix tests/clients/node` installs (`make env` does where npm is)",
)
_CHECKS = ("--strict", "--skipLibCheck", "--target", "es2022", "--module", "commonjs", "--lib", "es2022,dom")


def command(name: str) -> Path:
    """The path of a command from the npm packages of the tests."""
    return MODULES / ".bin" / name


def picture_of(program: str, folder: Path, url: str) -> Image.Image:
    """The picture whose base64 ``program``, called with ``url``, prints; it is compiled and run in ``folder``.

    :raises AssertionError: it does not compile, or ends with an error.
    """
    (folder / "main.ts").write_text("declare const process: { argv: string[] };\n" + dedent(program), encoding="utf-8")
    (folder / "node_modules").symlink_to(MODULES)
    run(command("tsc"), *_CHECKS, "--outDir", folder / "out", folder / "main.ts")
    assert NODE is not None
    return Image.open(io.BytesIO(b64decode(run(NODE, folder / "out" / "main.js", url))))
