"""Passes for event streams, for clients that can send no header."""

from __future__ import annotations

import logging

import pytest
from fastapi.testclient import TestClient

from latentd.errors import QueueFull
from latentd.server.tickets import Tickets
from latentd.testing import AppFactory

BEARER = {"Authorization": "Bearer key-1"}


def test_a_ticket_is_its_users_until_it_runs_out() -> None:
    now = [0.0]
    tickets = Tickets(lifetime=10, clock=lambda: now[0])
    mine, other = tickets.issue("ann"), tickets.issue("bob")
    assert (tickets.user_of(mine), tickets.user_of(other), tickets.user_of("guess")) == ("ann", "bob", None)
    now[0] = 10.0
    assert tickets.user_of(mine) is None


def test_their_number_is_bounded_until_one_runs_out() -> None:
    now = [0.0]
    tickets = Tickets(lifetime=10, limit=2, clock=lambda: now[0])
    tickets.issue("ann")
    now[0] = 4.0
    tickets.issue("ann")
    with pytest.raises(QueueFull) as full:
        tickets.issue("ann")
    assert full.value.retry_after == 7
    now[0] = 11.0
    assert tickets.user_of(tickets.issue("ann")) == "ann"


@pytest.fixture
def guarded(latentd_app: AppFactory) -> TestClient:
    return latentd_app(flags=["--api-key", "key-1", "--api-log", "--subpath", "sd"])


def ticket(client: TestClient) -> str:
    reply = client.post("/latentd/v1/tickets", headers=BEARER)
    assert reply.headers["cache-control"] == "no-store"
    assert reply.json()["expires_in"] == 300
    return str(reply.json()["ticket"])


@pytest.mark.parametrize("prefix", ["", "/sd"])
def test_a_ticket_opens_event_streams(guarded: TestClient, prefix: str) -> None:
    # Authentication comes first: with a ticket the job is looked for, without one it is not.
    stream = f"{prefix}/latentd/v1/jobs/none/events"
    assert guarded.get(stream).status_code == 401
    assert guarded.get(stream, params={"ticket": "guess"}).status_code == 401
    assert guarded.get(stream, params={"ticket": ticket(guarded)}).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/latentd/v1/jobs"),
        ("GET", "/latentd/v1/jobs/none"),
        ("POST", "/latentd/v1/events"),
        ("GET", "/latentd/v1/jobs/none/images/0"),
        ("POST", "/latentd/v1/jobs/none/events"),
        ("POST", "/latentd/v1/jobs/none/cancel"),
        ("POST", "/latentd/v1/tickets"),
        ("GET", "/sdapi/v1/options"),
    ],
)
def test_a_ticket_opens_nothing_else(guarded: TestClient, method: str, path: str) -> None:
    assert guarded.request(method, path, params={"ticket": ticket(guarded)}).status_code == 401


def test_a_ticket_is_given_to_those_who_may_call(guarded: TestClient) -> None:
    assert guarded.post("/latentd/v1/tickets").status_code == 401


def test_a_ticket_is_not_logged(guarded: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="latentd")
    token = ticket(guarded)
    guarded.get("/latentd/v1/jobs/none/events", params={"ticket": token})
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("latentd")]
    assert any("/latentd/v1/jobs/none/events" in line for line in lines)
    assert not any(token in line for line in lines)
