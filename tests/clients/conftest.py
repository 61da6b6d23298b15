"""The document that generators make clients of: that of the reference server, with every plugin installed here."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.reference_server import ReferenceServer


@pytest.fixture(scope="session")
def document(reference_server: ReferenceServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's ``/openapi.json`` in a file."""
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    with urllib.request.urlopen(f"{reference_server.url}/openapi.json") as reply:
        path.write_bytes(reply.read())
    return path


def installed(command: str) -> str:
    """The path of a command that came with a package of this environment."""
    return str(Path(sys.executable).with_name(command))


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What ``command`` prints.

    :raises AssertionError: its status is not 0; with what it printed.
    """
    words: Sequence[str] = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-8000:]}"
    return done.stdout
