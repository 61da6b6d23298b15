"""Contracts of the endpoints that set options, watch, stop and look again."""

from __future__ import annotations

import threading
import time

from tests.compat.contract import SMALL, contract, get, post, rows_have
from tests.reference_server import ReferenceServer


@contract("GET /sdapi/v1/options", "superset", "latentd's own options stand in it, too")
def options(server: ReferenceServer) -> None:
    known = get(server, "/sdapi/v1/options")
    assert (known["CLIP_stop_at_last_layers"], known["samples_format"]) == (1.0, "png")
    assert known["randn_source"] == "CPU"
    assert known["sd_model_checkpoint"].startswith("tiny-a")


@contract(
    "POST /sdapi/v1/options",
    "different",
    "an unknown key is ignored with a line in the log, where the original breaks off half-way with a 500; a value of "
    "a wrong type is a 422",
)
def set_options(server: ReferenceServer) -> None:
    assert post(server, "/sdapi/v1/options", {"jpeg_quality": 71, "no_such_option": 1}) is None
    try:
        assert get(server, "/sdapi/v1/options")["jpeg_quality"] == 71
        assert "no_such_option" not in get(server, "/sdapi/v1/options")
        assert server.call("POST", "/sdapi/v1/options", {"jpeg_quality": []})[0] == 422
        assert get(server, "/sdapi/v1/options")["jpeg_quality"] == 71
    finally:
        post(server, "/sdapi/v1/options", {"jpeg_quality": 80})


@contract("GET /sdapi/v1/progress", "superset", "`?id_task=` for one job")
def progress(server: ReferenceServer) -> None:
    idle = get(server, "/sdapi/v1/progress")
    assert list(idle) == ["progress", "eta_relative", "state", "current_image", "textinfo"]
    assert (idle["progress"], idle["eta_relative"], idle["current_image"]) == (0, 0, None)
    state = ["skipped", "interrupted", "stopping_generation", "job", "job_count", "job_timestamp", "job_no"]
    assert list(idle["state"]) == [*state, "sampling_step", "sampling_steps"]
    post(server, "/sdapi/v1/txt2img", SMALL | {"force_task_id": "compat-progress"})
    assert get(server, "/sdapi/v1/progress?id_task=compat-progress")["state"]["job_count"] == 0


@contract("POST /sdapi/v1/interrupt", "exact")
def interrupt(server: ReferenceServer) -> None:
    assert post(server, "/sdapi/v1/interrupt") == {}
    ended: list[int] = []
    body = SMALL | {"steps": 150, "width": 256, "height": 256}
    drawing = threading.Thread(target=lambda: ended.append(server.call("POST", "/sdapi/v1/txt2img", body)[0]))
    drawing.start()
    while get(server, "/sdapi/v1/progress?skip_current_image=true")["state"]["sampling_step"] < 1:
        time.sleep(0.02)
    post(server, "/sdapi/v1/interrupt")
    assert get(server, "/sdapi/v1/progress?skip_current_image=true")["state"]["interrupted"]
    drawing.join(60)
    assert ended == [200]


@contract("POST /sdapi/v1/skip", "exact")
def skip(server: ReferenceServer) -> None:
    assert post(server, "/sdapi/v1/skip") is None


def _looks_again(refresh: str, listed: str) -> None:
    @contract(f"POST /sdapi/v1/{refresh}", "exact")
    def check(server: ReferenceServer) -> None:
        before = get(server, f"/sdapi/v1/{listed}")
        assert post(server, f"/sdapi/v1/{refresh}") is None
        assert get(server, f"/sdapi/v1/{listed}") == before


_looks_again("refresh-checkpoints", "sd-models")
_looks_again("refresh-vae", "sd-vae")
_looks_again("refresh-loras", "loras")
_looks_again("refresh-embeddings", "embeddings")


@contract("POST /sdapi/v1/unload-checkpoint", "exact")
def unload_checkpoint(server: ReferenceServer) -> None:
    chosen = get(server, "/sdapi/v1/options")["sd_model_checkpoint"]
    assert post(server, "/sdapi/v1/unload-checkpoint") == {}
    assert get(server, "/sdapi/v1/options")["sd_model_checkpoint"] == chosen
    assert post(server, "/sdapi/v1/txt2img", SMALL)["images"]  # it is loaded again when it is needed


@contract("POST /sdapi/v1/reload-checkpoint", "exact")
def reload_checkpoint(server: ReferenceServer) -> None:
    assert post(server, "/sdapi/v1/reload-checkpoint") == {}


def _absent_without_its_flag(action: str) -> None:
    @contract(f"POST /sdapi/v1/server-{action}", "exact")
    def check(server: ReferenceServer) -> None:
        assert server.call("POST", f"/sdapi/v1/server-{action}", {})[0] == 404


for _action in ("kill", "restart", "stop"):
    _absent_without_its_flag(_action)


@contract("POST /internal/progress", "exact")
def internal_progress(server: ReferenceServer) -> None:
    found = post(server, "/internal/progress", {"id_task": "no such task", "id_live_preview": -1, "live_preview": True})
    keys = ["active", "queued", "completed", "progress", "eta", "live_preview", "id_live_preview", "textinfo"]
    assert list(found) == keys
    assert (found["active"], found["textinfo"], found["id_live_preview"]) == (False, "Waiting...", -1)


@contract("GET /internal/pending-tasks", "exact")
def pending_tasks(server: ReferenceServer) -> None:
    assert get(server, "/internal/pending-tasks") == {"size": 0, "tasks": []}


@contract("GET /internal/ping", "exact")
def ping(server: ReferenceServer) -> None:
    assert get(server, "/internal/ping") == {}


@contract("GET /internal/quicksettings-hint", "different", "labels are latentd's own words")
def quicksettings_hint(server: ReferenceServer) -> None:
    rows = get(server, "/internal/quicksettings-hint")
    rows_have(rows, "name", "label")
    assert "sd_vae" in {row["name"] for row in rows}


@contract("GET /internal/sysinfo", "different", "latentd's flags without secrets, options, packages")
def sysinfo(server: ReferenceServer) -> None:
    found = get(server, "/internal/sysinfo")
    assert {"Platform", "Python", "Version", "Commandline flags", "Config", "Packages"} <= set(found)


@contract("GET /internal/sysinfo-download", "different", "as `/internal/sysinfo`")
def sysinfo_download(server: ReferenceServer) -> None:
    assert set(get(server, "/internal/sysinfo-download")) == set(get(server, "/internal/sysinfo"))


@contract("GET /internal/profile-startup", "different", "latentd's own parts of the start")
def profile_startup(server: ReferenceServer) -> None:
    found = get(server, "/internal/profile-startup")
    assert list(found) == ["total", "records"]
    assert found["total"] >= sum(found["records"].values()) * 0.99
