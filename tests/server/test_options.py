"""Options over HTTP."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from latentd.testing import AppFactory


def test_options_are_read_set_and_kept(client: TestClient, latentd_app: AppFactory) -> None:
    assert client.get("/sdapi/v1/options").json()["jpeg_quality"] == 80.0
    reply = client.post("/sdapi/v1/options", json={"jpeg_quality": 55, "samples_format": "jpg"})
    assert (reply.status_code, reply.json()) == (200, None)
    assert client.get("/sdapi/v1/options").json()["jpeg_quality"] == 55.0
    assert json.loads((latentd_app.data_dir / "config.json").read_text())["samples_format"] == "jpg"


@pytest.mark.parametrize("body", [{"no_such_option": 1}, {}, []])
def test_what_names_no_option_changes_nothing(client: TestClient, body: object) -> None:
    before = client.get("/sdapi/v1/options").json()
    assert client.post("/sdapi/v1/options", json=body).status_code == 200
    assert client.get("/sdapi/v1/options").json() == before


@pytest.mark.parametrize("wrong", [{"jpeg_quality": "x"}, {"jpeg_quality": []}, {"samples_save": "maybe"}])
def test_a_value_of_a_wrong_type_changes_nothing(client: TestClient, wrong: dict[str, object]) -> None:
    before = client.get("/sdapi/v1/options").json()
    reply = client.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 2} | wrong)
    assert reply.status_code == 422
    assert next(iter(wrong)) in reply.json()["detail"]
    assert client.get("/sdapi/v1/options").json() == before


def test_an_unknown_checkpoint_changes_nothing(client: TestClient) -> None:
    reply = client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "nope", "jpeg_quality": 10})
    assert (reply.status_code, reply.json()["detail"]) == (404, "model 'nope' not found")
    assert client.get("/sdapi/v1/options").json()["jpeg_quality"] == 80.0


def test_options_that_guard_the_server_cannot_be_set(client: TestClient) -> None:
    client.post("/sdapi/v1/options", json={"api_forbid_local_requests": False})
    assert client.get("/sdapi/v1/options").json()["api_forbid_local_requests"] is True


def test_frozen_options_say_so(latentd_app: AppFactory) -> None:
    client = latentd_app(flags=["--freeze-settings"])
    reply = client.post("/sdapi/v1/options", json={"jpeg_quality": 10})
    assert (reply.status_code, reply.json()["detail"]) == (422, "changing settings is disabled")
