"""What the compatibility page says of an endpoint, beside the check that shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tests.reference_server import ReferenceServer

Verdict = Literal["exact", "superset", "different", "latentd's own"]
Check = Callable[[ReferenceServer], None]

SMALL: dict[str, Any] = {"prompt": "circle", "steps": 2, "width": 64, "height": 64, "seed": 7}
"""A generation that takes no time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """How an endpoint stands to AUTOMATIC1111's. ``why`` says what is more or other, and is empty where nothing is."""

    endpoint: str
    verdict: Verdict
    why: str
    check: Check


CONTRACTS: dict[str, Contract] = {}
"""By ``METHOD path``, in the order of the page."""


def contract(endpoint: str, verdict: Verdict, why: str = "") -> Callable[[Check], Check]:
    """Makes the decorated check the contract of ``endpoint`` ("GET /path")."""

    def keep(check: Check) -> Check:
        assert endpoint not in CONTRACTS, endpoint
        CONTRACTS[endpoint] = Contract(endpoint=endpoint, verdict=verdict, why=why, check=check)
        return check

    return keep


def get(server: ReferenceServer, path: str) -> Any:
    """The body of a GET that must succeed."""
    status, body = server.call("GET", path)
    assert status == 200, (path, status, body)
    return body


def post(server: ReferenceServer, path: str, body: Any = None) -> Any:
    """The body of a POST that must succeed."""
    status, answer = server.call("POST", path, {} if body is None else body)
    assert status == 200, (path, status, answer)
    return answer


def rows_have(rows: list[dict[str, Any]], *keys: str) -> None:
    """There are rows, and each has exactly these keys in this order."""
    assert rows
    assert {tuple(row) for row in rows} == {keys}
