"""The document of the core's routes, as it was when somebody last looked at it.

After a change that is meant: ``python -m tests.api.test_openapi_snapshot`` writes it anew; the difference belongs to
the commit.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

SNAPSHOT = Path(__file__).parent / "openapi.json"


def document(data_dir: Path) -> dict[str, Any]:
    """The OpenAPI document of the core alone, without what changes with every release."""
    from latentd.server.app import create_app
    from latentd.settings import parse_settings

    flags = ["--data-dir", str(data_dir), "--core-only", "--api-server-stop"]
    found: dict[str, Any] = create_app(parse_settings(flags, environment={})).openapi()
    found["info"]["version"] = "0"
    return found


def test_the_document_is_the_one_on_record(tmp_path: Path) -> None:
    recorded, found = json.loads(SNAPSHOT.read_text()), json.loads(json.dumps(document(tmp_path)))
    assert set(found["paths"]) == set(recorded["paths"])
    for path, operations in recorded["paths"].items():
        assert found["paths"][path] == operations, path
    for name, schema in recorded["components"]["schemas"].items():
        assert found["components"]["schemas"].get(name) == schema, name
    assert found == recorded


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        SNAPSHOT.write_text(json.dumps(document(Path(folder)), indent=1, sort_keys=True) + "\n")
