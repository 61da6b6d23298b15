"""Whatever the OpenAPI document lets a client send, and some that it does not, is answered without a 500."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.api.conftest import write_empty_checkpoint

from latentd.server.app import create_app
from latentd.settings import parse_settings

schemathesis = pytest.importorskip("schemathesis")
hypothesis = pytest.importorskip("hypothesis")

#: For each operation; the same ones in each run.
EXAMPLES = 8


@pytest.fixture(scope="module")
def openapi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The schema of a server of the core alone on which generations can be planned and fail when they load."""
    data = tmp_path_factory.mktemp("fuzzed")
    write_empty_checkpoint(Path(data))
    app = create_app(parse_settings(["--data-dir", str(data), "--core-only", "--allowed-hosts", "*"], environment={}))
    with TestClient(app):
        yield schemathesis.openapi.from_asgi("/openapi.json", app)


def test_nothing_a_client_sends_is_a_500(openapi: Any) -> None:
    bad = {}
    for found in openapi.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE:
            try:
                _try(operation.as_strategy(generation_mode=mode))
            except hypothesis.errors.Unsatisfiable:
                continue  # an operation without any input can be asked in one way only
            except AssertionError as error:
                bad[f"{operation.method.upper()} {operation.path}"] = str(error)
    assert not bad


def _try(cases: Any) -> None:
    @hypothesis.given(case=cases)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    def answered(case: Any) -> None:
        response = case.call()
        assert response.status_code < 500 or response.status_code in (501, 503), response.text

    answered()
