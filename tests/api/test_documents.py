"""What the server answers is what the OpenAPI document says, key by key, where no model stands between the two."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel

from latentd.server.schemas.jobs import Job, JobAccepted, JobDocument, JobError, JobList
from latentd.server.schemas.server import Liveness, PluginList, PluginRow, Readiness


def check(model: type[BaseModel], document: dict[str, Any]) -> None:
    """``document`` has the model's keys, every one and no other, with values of its types."""
    assert set(document) == set(model.model_fields)
    model.model_validate_json(json.dumps(document), strict=True)


@pytest.fixture
def ended(planned: TestClient) -> dict[str, Any]:
    """The document of a job that has failed, its checkpoint having no weights."""
    accepted = planned.post("/latentd/v1/jobs", json={"prompt": "a", "steps": 1, "width": 64, "height": 64}).json()
    check(JobAccepted, accepted)
    end = time.monotonic() + 60
    while (document := planned.get(accepted["url"]).json())["state"] not in ("failed", "completed"):
        assert time.monotonic() < end, document
        time.sleep(0.05)
    return dict(document)


def test_jobs(planned: TestClient, ended: dict[str, Any]) -> None:
    check(Job, ended)
    check(JobError, ended["error"])
    check(Job, planned.post(f"/latentd/v1/jobs/{ended['id']}/cancel").json())
    listed = planned.get("/latentd/v1/jobs").json()
    check(JobList, listed)
    check(JobDocument, listed["jobs"][0])


def test_events(planned: TestClient, ended: dict[str, Any]) -> None:
    lines = planned.get(ended["events"]).text.splitlines()
    assert lines[0] == "event: failed"
    (data,) = (line for line in lines if line.startswith("data: "))
    check(JobDocument, json.loads(data.removeprefix("data: ")))


def test_the_server(planned: TestClient) -> None:
    check(Liveness, planned.get("/livez").json())
    check(Readiness, planned.get("/readyz").json())
    found = planned.get("/latentd/v1/plugins").json()
    check(PluginList, found)
    check(PluginRow, found["plugins"][0])
