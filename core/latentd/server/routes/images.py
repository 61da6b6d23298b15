"""Reading pictures: their metadata, and a description of what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from latentd.errors import NotFound, near_matches
from latentd.plugins.catalogue import INTERROGATORS, install_hint, package_hint
from latentd.server import work
from latentd.server.body_limits import LARGE_BODY
from latentd.server.json_reply import SafeJSONResponse
from latentd.server.routing import APIRouter
from latentd.server.schemas.images import InterrogateRequest, InterrogateResponse, PNGInfoRequest, PNGInfoResponse
from latentd.types import JsonValue

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.server.services import AppServices


def router(services: AppServices) -> APIRouter:
    """Routes ``/sdapi/v1/png-info`` and ``/sdapi/v1/interrogate``."""
    routes = APIRouter(prefix="/sdapi/v1", tags=["images"])

    @routes.post("/png-info", name="pnginfoapi", response_model=PNGInfoResponse, openapi_extra={LARGE_BODY: True})
    async def png_info(body: PNGInfoRequest) -> Response:
        """The infotext of a picture, parsed, and every other text in the file."""
        image = await services.decode_image(body.image.strip())
        reply: Response = await services.images.run(lambda: SafeJSONResponse(_metadata(services, image)))
        return reply

    @routes.post(
        "/interrogate", name="interrogateapi", response_model=InterrogateResponse, openapi_extra={LARGE_BODY: True}
    )
    async def interrogate(body: InterrogateRequest) -> dict[str, str]:
        """A text that describes the picture."""
        if body.image is None:
            raise NotFound("Image not found", hint="image is a base64 text")
        image = await services.decode_image(body.image)
        spec = services.registry.interrogators.find(body.model)
        if spec is None:
            known = services.registry.interrogators
            hint = package_hint("interrogator", body.model) or near_matches(body.model, known)
            raise NotFound("Model not found", hint=hint or _known(list(known)))
        caption = await services.run_on_worker(
            services.portable(work.caption, spec.name, image.convert("RGB")), kind="interrogate"
        )
        return {"caption": caption}

    return routes


def _metadata(services: AppServices, image: Image) -> dict[str, JsonValue]:
    from latentd.images.metadata import read_metadata
    from latentd.infotext.novelai import novelai_infotext
    from latentd.infotext.parse import parse_infotext
    from latentd.server.infotext_request import parse_options

    text, items = read_metadata(image)
    text = novelai_infotext(items, *image.size) or text
    how = parse_options(services.options, services.styles.by_name)
    # Clients of early 2023 read the infotext from the items.
    if text is not None:
        items = items | {"parameters": text}
    return {"info": text or "", "items": items, "parameters": parse_infotext(text or "", how)}


def _known(names: list[str]) -> str:
    if not names:
        return f"no interrogator is installed; {install_hint(INTERROGATORS)}"
    return "known: " + ", ".join(names)
