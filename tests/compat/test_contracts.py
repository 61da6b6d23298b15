"""Every endpoint does what the compatibility page says of it, and every endpoint is on that page."""

from __future__ import annotations

import pytest

from tests.compat import ALL
from tests.compat.contract import get
from tests.reference_server import ReferenceServer


@pytest.mark.parametrize("endpoint", ALL)
def test_contract(endpoint: str, reference_server: ReferenceServer) -> None:
    ALL[endpoint].check(reference_server)


def test_only_exact_ones_need_no_words() -> None:
    assert [c.endpoint for c in ALL.values() if (c.verdict == "exact") == bool(c.why)] == []


def test_every_endpoint_has_a_contract(reference_server: ReferenceServer) -> None:
    paths = get(reference_server, "/openapi.json")["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    behind_a_flag = {f"POST /sdapi/v1/server-{action}" for action in ("kill", "restart", "stop")}
    assert served | behind_a_flag == set(ALL)
