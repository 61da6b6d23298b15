"""Model files: their lists, searching the folders again, and loading and unloading the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.responses import Response

from latentd.server.json_reply import SafeJSONResponse
from latentd.server.routing import APIRouter
from latentd.server.schemas import lists
from latentd.types import JsonValue

if TYPE_CHECKING:
    from latentd.server.services import AppServices


def router(services: AppServices) -> APIRouter:
    """Routes about checkpoints, VAEs, networks and embeddings."""
    routes = APIRouter(prefix="/sdapi/v1", tags=["models"])
    _add_lists(routes, services)
    _add_refreshes(routes, services)
    return routes


def _add_lists(routes: APIRouter, services: AppServices) -> None:
    async def _listed(rows: Callable[[], JsonValue]) -> Response:
        # There may be thousands of files with long metadata: both listing and encoding would block the event loop.
        reply: Response = await services.run_in_thread(lambda: SafeJSONResponse(rows()))
        return reply

    @routes.get("/sd-models", name="get_sd_models", response_model=list[lists.SDModelItem])
    async def sd_models() -> Response:
        """Checkpoints."""
        return await _listed(services.models.checkpoints.rows)

    @routes.get("/sd-vae", name="get_sd_vaes", response_model=list[lists.SDVaeItem])
    async def sd_vae() -> Response:
        """VAE files."""
        return await _listed(services.models.vaes.rows)

    @routes.get("/hypernetworks", name="get_hypernetworks", response_model=list[lists.HypernetworkItem])
    async def hypernetworks() -> Response:
        """Hypernetworks."""
        return await _listed(services.hypernetwork_rows)

    @routes.get("/loras", name="get_loras", response_model=list[lists.LoraItem])
    async def loras() -> Response:
        """LoRA files and their kin."""
        return await _listed(services.lora_rows)

    @routes.get("/embeddings", name="get_embeddings", response_model=lists.EmbeddingsResponse)
    async def embeddings() -> Response:
        """Textual-inversion embeddings: those that fit the loaded model, and those that do not."""
        return await _listed(services.embedding_rows)


def _add_refreshes(routes: APIRouter, services: AppServices) -> None:
    @routes.post("/refresh-checkpoints")
    async def refresh_checkpoints() -> None:
        """Look through the checkpoint folders again, and those of upscalers, which have no path of their own."""
        await services.run_in_thread(
            lambda: services.refresh(services.models.checkpoints.refresh, services.host.refresh_upscalers)
        )

    @routes.post("/refresh-vae")
    async def refresh_vae() -> None:
        """Look through the VAE folders again."""
        await services.run_in_thread(lambda: services.refresh(services.models.vaes.refresh))

    @routes.post("/refresh-loras")
    async def refresh_loras() -> None:
        """Look through the LoRA folders again."""
        await services.run_in_thread(lambda: services.refresh(services.networks.refresh))

    @routes.post("/refresh-embeddings")
    async def refresh_embeddings() -> None:
        """Look through the embeddings folder again."""
        await services.run_in_thread(lambda: services.refresh(services.embeddings.refresh))

    @routes.post("/unload-checkpoint", name="unloadapi", openapi_extra={"x-scope": "admin"})
    async def unload_checkpoint() -> dict[str, JsonValue]:
        """Take the models out of the device's memory; the next generation brings them back."""
        await services.unload_models()
        return {}

    @routes.post("/reload-checkpoint", name="reloadapi", openapi_extra={"x-scope": "admin"})
    async def reload_checkpoint() -> dict[str, JsonValue]:
        """Bring the selected checkpoint into the device's memory."""
        await services.load_selected()
        return {}
