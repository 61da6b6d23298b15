"""Model files: lists of them, looking again, and taking the checkpoint in and out of memory."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from latentd.server.schemas import lists


def router(services: Any) -> APIRouter:
    """Routes about checkpoints, VAEs, networks and embeddings."""
    routes = APIRouter(prefix="/sdapi/v1", tags=["models"])
    _add_lists(routes, services)
    _add_refreshes(routes, services)
    return routes


def _add_lists(routes: APIRouter, services: Any) -> None:
    @routes.get("/sd-models", name="get_sd_models", response_model=list[lists.SDModelItem])
    async def sd_models() -> list[dict[str, Any]]:
        """Checkpoints."""
        rows: list[dict[str, Any]] = services.models.checkpoints.rows()
        return rows

    @routes.get("/sd-vae", name="get_sd_vaes", response_model=list[lists.SDVaeItem])
    async def sd_vae() -> list[dict[str, Any]]:
        """VAE files."""
        rows: list[dict[str, Any]] = services.models.vaes.rows()
        return rows

    @routes.get("/hypernetworks", name="get_hypernetworks", response_model=list[lists.HypernetworkItem])
    async def hypernetworks() -> list[dict[str, Any]]:
        """Hypernetworks."""
        rows: list[dict[str, Any]] = await services.run_in_thread(services.hypernetwork_rows)
        return rows

    @routes.get("/loras", name="get_loras", response_model=list[lists.LoraItem])
    async def loras() -> list[dict[str, Any]]:
        """LoRA files and their kin."""
        rows: list[dict[str, Any]] = await services.run_in_thread(services.lora_rows)
        return rows

    @routes.get("/embeddings", name="get_embeddings", response_model=lists.EmbeddingsResponse)
    async def embeddings() -> dict[str, Any]:
        """Textual-inversion embeddings: those that fit the loaded model, and those that do not."""
        rows: dict[str, Any] = await services.run_in_thread(services.embedding_rows)
        return rows


def _add_refreshes(routes: APIRouter, services: Any) -> None:
    @routes.post("/refresh-checkpoints")
    async def refresh_checkpoints() -> None:
        """Look through the checkpoint folders again, and those of upscalers, which have no path of their own."""
        await services.run_in_thread(services.models.checkpoints.refresh)
        await services.run_in_thread(services.host.refresh_upscalers)

    @routes.post("/refresh-vae")
    async def refresh_vae() -> None:
        """Look through the VAE folders again."""
        await services.run_in_thread(services.models.vaes.refresh)

    @routes.post("/refresh-loras")
    async def refresh_loras() -> None:
        """Look through the LoRA folders again."""
        await services.run_in_thread(services.networks.refresh)

    @routes.post("/refresh-embeddings")
    async def refresh_embeddings() -> None:
        """Look through the embeddings folder again."""
        await services.run_in_thread(services.refresh_embeddings)

    @routes.post("/unload-checkpoint", name="unloadapi", openapi_extra={"x-scope": "admin"})
    async def unload_checkpoint() -> dict[str, Any]:
        """Take the models out of the device's memory; the next generation brings them back."""
        await services.unload_models()
        return {}

    @routes.post("/reload-checkpoint", name="reloadapi", openapi_extra={"x-scope": "admin"})
    async def reload_checkpoint() -> dict[str, Any]:
        """Bring the selected checkpoint into the device's memory."""
        await services.load_selected()
        return {}
