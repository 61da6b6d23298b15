"""Contracts of the endpoints that list what there is."""

from __future__ import annotations

import json

from tests.compat.contract import contract, get, rows_have
from tests.reference_server import ReferenceServer


@contract("GET /sdapi/v1/sd-models", "exact")
def sd_models(server: ReferenceServer) -> None:
    rows = get(server, "/sdapi/v1/sd-models")
    rows_have(rows, "title", "model_name", "hash", "sha256", "filename", "config")
    tiny = next(row for row in rows if row["model_name"] == "tiny-a")
    assert tiny["title"] == f"tiny-a.safetensors [{tiny['hash']}]"
    assert tiny["hash"] == tiny["sha256"][:10]
    assert tiny["config"].endswith("tiny-a.yaml")


@contract("GET /sdapi/v1/sd-vae", "exact")
def sd_vae(server: ReferenceServer) -> None:
    rows = get(server, "/sdapi/v1/sd-vae")
    rows_have(rows, "model_name", "filename")
    assert {"Automatic", "None"}.isdisjoint(row["model_name"] for row in rows)


@contract("GET /sdapi/v1/samplers", "exact")
def samplers(server: ReferenceServer) -> None:
    rows = get(server, "/sdapi/v1/samplers")
    rows_have(rows, "name", "aliases", "options")
    assert rows[0]["name"] == "DPM++ 2M Karras"
    assert {value for row in rows for value in row["options"].values()} >= {"True", "karras"}


@contract("GET /sdapi/v1/schedulers", "superset", "Forge's own four stand after those of 1.10")
def schedulers(server: ReferenceServer) -> None:
    rows = get(server, "/sdapi/v1/schedulers")
    rows_have(rows, "name", "label", "aliases", "default_rho", "need_inner_model")
    assert [row["label"] for row in rows][:4] == ["Automatic", "Uniform", "Karras", "Exponential"]
    assert [row["label"] for row in rows][12:14] == ["Turbo", "Align Your Steps GITS"]


@contract("GET /sdapi/v1/upscalers", "exact")
def upscalers(server: ReferenceServer) -> None:
    rows = get(server, "/sdapi/v1/upscalers")
    rows_have(rows, "name", "model_name", "model_path", "model_url", "scale")
    names = [row["name"] for row in rows]
    assert names[:3] == ["None", "Lanczos", "Nearest"]
    assert names[3:] == sorted(names[3:], key=str.lower)


@contract("GET /sdapi/v1/latent-upscale-modes", "exact")
def latent_upscale_modes(server: ReferenceServer) -> None:
    kinds = ("", " (antialiased)", " (bicubic)", " (bicubic antialiased)", " (nearest)", " (nearest-exact)")
    assert get(server, "/sdapi/v1/latent-upscale-modes") == [{"name": f"Latent{kind}"} for kind in kinds]


@contract("GET /sdapi/v1/hypernetworks", "exact")
def hypernetworks(server: ReferenceServer) -> None:
    rows = get(server, "/sdapi/v1/hypernetworks")
    rows_have(rows, "name", "path")
    assert all(row["path"].endswith(f"{row['name']}.pt") for row in rows)


@contract("GET /sdapi/v1/loras", "exact")
def loras(server: ReferenceServer) -> None:
    rows = get(server, "/sdapi/v1/loras")
    rows_have(rows, "name", "alias", "path", "metadata")
    assert any(row["metadata"].get("ss_network_dim") for row in rows)


@contract("GET /sdapi/v1/embeddings", "exact")
def embeddings(server: ReferenceServer) -> None:
    found = get(server, "/sdapi/v1/embeddings")
    assert list(found) == ["loaded", "skipped"]
    entry = found["loaded"]["tinyti"]
    assert list(entry) == ["step", "sd_checkpoint", "sd_checkpoint_name", "shape", "vectors"]
    assert (entry["shape"], entry["vectors"]) == (64, 2)


@contract("GET /sdapi/v1/face-restorers", "exact")
def face_restorers(server: ReferenceServer) -> None:
    assert get(server, "/sdapi/v1/face-restorers") == [{"name": n, "cmd_dir": None} for n in ("CodeFormer", "GFPGAN")]


@contract("GET /sdapi/v1/realesrgan-models", "exact")
def realesrgan_models(server: ReferenceServer) -> None:
    rows = get(server, "/sdapi/v1/realesrgan-models")
    rows_have(rows, "name", "path", "scale")
    assert [row["scale"] for row in rows] == [4, 4, 4, 4, 4, 2]


@contract("GET /sdapi/v1/prompt-styles", "exact")
def prompt_styles(server: ReferenceServer) -> None:
    rows = get(server, "/sdapi/v1/prompt-styles")
    rows_have(rows, "name", "prompt", "negative_prompt")
    assert "shiny" in {row["name"] for row in rows}


@contract("GET /sdapi/v1/scripts", "superset", "those of plugins stand in it, too")
def scripts(server: ReferenceServer) -> None:
    listed = get(server, "/sdapi/v1/scripts")
    assert list(listed) == ["txt2img", "img2img"]
    assert {"prompt matrix", "x/y/z plot", "Hypertile", "refiner", "seed"} <= set(listed["txt2img"])
    assert "outpainting mk2" in listed["img2img"]


@contract("GET /sdapi/v1/script-info", "superset", "those of plugins stand in it, too")
def script_info(server: ReferenceServer) -> None:
    rows = get(server, "/sdapi/v1/script-info")
    rows_have(rows, "name", "is_alwayson", "is_img2img", "args")
    rows_have([a for row in rows for a in row["args"]], "label", "value", "minimum", "maximum", "step", "choices")
    assert [row["is_img2img"] for row in rows] == sorted(row["is_img2img"] for row in rows)


@contract(
    "GET /sdapi/v1/extensions",
    "different",
    "always empty: extensions cannot run here; plugins are listed under `/latentd/v1/plugins`",
)
def extensions(server: ReferenceServer) -> None:
    assert get(server, "/sdapi/v1/extensions") == []


@contract("GET /sdapi/v1/memory", "exact")
def memory(server: ReferenceServer) -> None:
    figures = get(server, "/sdapi/v1/memory")
    assert list(figures) == ["ram", "cuda"]
    assert list(figures["ram"]) == ["free", "used", "total"]
    parts = ["system", "active", "allocated", "reserved", "inactive", "events"]
    assert list(figures["cuda"]) == parts or list(figures["cuda"]) == ["error"]


@contract("GET /sdapi/v1/cmd-flags", "different", "passwords, keys and tokens are shown as null")
def cmd_flags(server: ReferenceServer) -> None:
    flags = get(server, "/sdapi/v1/cmd-flags")
    assert flags["data_dir"] == str(server.data)
    assert flags["api_auth"] is None
    assert {"ckpt", "lora_dir", "medvram", "xformers", "max_batch_count"} <= set(flags)


@contract(
    "GET /sd_extra_networks/thumb",
    "different",
    "a model's own file gives its preview; what is no preview is a 404, where AUTOMATIC1111 fails with a 500",
)
def extra_network_preview(server: ReferenceServer) -> None:
    status, body = server.call("GET", "/sd_extra_networks/thumb?filename=models/Lora/tinylora1.safetensors")
    assert (status, body["detail"]) == (404, "File not found")


@contract("GET /sd_extra_networks/metadata", "exact")
def extra_network_metadata(server: ReferenceServer) -> None:
    assert get(server, "/sd_extra_networks/metadata?page=lora&item=none") == {}
    told = get(server, "/sd_extra_networks/metadata?page=lora&item=tinylora1")
    assert list(told) == ["metadata"]
    assert json.loads(told["metadata"])["ss_network_dim"]
