"""A server without models or plugins has every list, empty where there is nothing."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from latentd.testing import AppFactory


@pytest.mark.parametrize(
    "path",
    ["sd-models", "sd-vae", "hypernetworks", "loras", "face-restorers", "prompt-styles", "extensions"],
)
def test_lists_are_empty_and_never_404(client: TestClient, path: str) -> None:
    reply = client.get(f"/sdapi/v1/{path}")
    assert (reply.status_code, reply.json()) == (200, [])


def test_upscalers_begin_with_the_cores(client: TestClient) -> None:
    rows = client.get("/sdapi/v1/upscalers").json()
    assert [row["name"] for row in rows] == ["None", "Lanczos", "Nearest"]
    assert rows[0] == {"name": "None", "model_name": None, "model_path": None, "model_url": None, "scale": 4.0}


def test_samplers_have_texts_for_options(client: TestClient) -> None:
    rows = {row["name"]: row for row in client.get("/sdapi/v1/samplers").json()}
    assert rows["DPM++ SDE Karras"] == {
        "name": "DPM++ SDE Karras",
        "aliases": ["k_dpmpp_sde_ka"],
        "options": {"scheduler": "karras", "second_order": "True", "brownian_noise": "True"},
    }
    assert next(iter(rows)) == "DPM++ 2M Karras"


def test_schedulers_have_labels(client: TestClient) -> None:
    rows = {row["name"]: row for row in client.get("/sdapi/v1/schedulers").json()}
    assert rows["karras"]["label"] == "Karras"
    assert rows["karras"]["default_rho"] == 7.0
    assert rows["automatic"]["aliases"] is None


def test_latent_upscale_modes(client: TestClient) -> None:
    names = [row["name"] for row in client.get("/sdapi/v1/latent-upscale-modes").json()]
    assert names[0] == "Latent"
    assert len(names) == 6


def test_realesrgan_models_are_the_whole_catalogue(client: TestClient) -> None:
    assert [row["scale"] for row in client.get("/sdapi/v1/realesrgan-models").json()] == [4, 4, 4, 4, 4, 2]


def test_scripts_are_lists_by_mode(client: TestClient) -> None:
    """Sections of A1111's form that stand in its list; nothing else without plugins."""
    sections = ["extra options", "Hypertile", "refiner", "seed"]
    assert client.get("/sdapi/v1/scripts").json() == {"txt2img": sections, "img2img": sections}
    rows = client.get("/sdapi/v1/script-info").json()
    with_rows = [name for name in sections if name != "Hypertile"]
    assert [(row["name"], row["is_img2img"]) for row in rows] == [(n, m) for m in (False, True) for n in with_rows]
    assert all(row["is_alwayson"] for row in rows)


def test_styles_are_read_again_when_the_file_changes(client: TestClient, latentd_app: AppFactory) -> None:
    file = latentd_app.data_dir / "styles.csv"
    file.write_text("name,prompt,negative_prompt\nshiny,{prompt} chrome,dull\n", encoding="utf-8")
    row = {"name": "shiny", "prompt": "{prompt} chrome", "negative_prompt": "dull"}
    assert client.get("/sdapi/v1/prompt-styles").json() == [row]


def test_memory_has_the_process_and_the_gpu(client: TestClient) -> None:
    figures = client.get("/sdapi/v1/memory").json()
    assert figures["ram"]["total"] == pytest.approx(figures["ram"]["used"] + figures["ram"]["free"])
    assert "system" in figures["cuda"] or "error" in figures["cuda"]


def test_flags_are_listed(client: TestClient, latentd_app: AppFactory) -> None:
    flags = client.get("/sdapi/v1/cmd-flags").json()
    assert flags["data_dir"] == str(latentd_app.data_dir)
    assert flags["api_auth"] is None


def test_a_server_without_checkpoint_is_alive_and_not_ready(client: TestClient) -> None:
    assert client.get("/livez").json() == {"status": "ok"}
    reply = client.get("/readyz")
    assert reply.status_code == 503
    assert reply.json()["problems"] == ["no checkpoint was found"]


def test_a_server_with_a_checkpoint_is_ready(with_checkpoint: TestClient) -> None:
    assert with_checkpoint.get("/readyz").status_code == 200
    assert [row["model_name"] for row in with_checkpoint.get("/sdapi/v1/sd-models").json()] == ["empty"]


def test_refreshing_finds_new_files(client: TestClient, latentd_app: AppFactory) -> None:
    folder = latentd_app.data_dir / "models" / "VAE"
    folder.mkdir(parents=True)
    (folder / "a.safetensors").write_bytes(b"")
    assert client.get("/sdapi/v1/sd-vae").json() == []
    assert client.post("/sdapi/v1/refresh-vae").json() is None
    assert [row["model_name"] for row in client.get("/sdapi/v1/sd-vae").json()] == ["a.safetensors"]


def test_clients_of_the_web_page_find_its_routes(client: TestClient) -> None:
    assert client.get("/app_id").json()["app_id"] >= 0
    assert client.get("/login_check").json() is None
    assert client.get("/internal/ping").json() == {}


@pytest.mark.parametrize("action", ["kill", "restart", "stop"])
def test_stopping_needs_its_flag(client: TestClient, action: str) -> None:
    assert client.post(f"/sdapi/v1/server-{action}").status_code == 404


def test_stopping_and_restarting(latentd_app: AppFactory) -> None:
    client = latentd_app(flags=["--api-server-stop"])
    asked: list[str] = []

    def on_exit(kind: str) -> bool:
        asked.append(kind)
        return kind == "stop"

    client.app.state.services.on_exit = on_exit  # type: ignore[attr-defined]
    assert client.post("/sdapi/v1/server-stop").text == "Stopping."
    assert client.post("/sdapi/v1/server-restart").status_code == 501
    assert asked == ["stop", "restart"]


def test_plugins_are_reported(client: TestClient) -> None:
    rows = client.get("/latentd/v1/plugins").json()["plugins"]
    assert {row["state"] for row in rows if row["builtin"]} == {"loaded"}
    assert "latentd.samplers" in {row["name"] for row in rows}
