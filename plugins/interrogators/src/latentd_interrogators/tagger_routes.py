"""Routes ``/tagger/v1/...`` of the tagger extensions: tags and ratings with their scores."""

from __future__ import annotations

import logging
from typing import Annotated

from pydantic import BaseModel, Field

from latentd.api import (
    APIRouter,
    InvalidRequest,
    JobControl,
    JsonValue,
    LenientFloat,
    LenientModel,
    LenientStr,
    NotFound,
    Services,
    flatten,
    reply_of,
)
from latentd_interrogators.deepdanbooru import RATING, tag_scores
from latentd_interrogators.loading import KIND
from latentd_interrogators.tagger_names import require_tagger, taggers

log = logging.getLogger(__name__)

FORM = "tagger_caption_form"
GROUPED, FLAT = "grouped", "flat"
DEFAULT_THRESHOLDS = {GROUPED: 0.0, FLAT: 0.35}


class TagBody(LenientModel):
    """Body of ``/tagger/v1/interrogate``."""

    image: LenientStr | None = Field(None, description="Base64 or data URL.")
    model: LenientStr = Field(description="A name of /tagger/v1/interrogators, or one of the extensions'.")
    threshold: Annotated[LenientFloat, Field(ge=0, le=1)] | None = Field(
        None, description="Least score of a tag; null: 0.0, or 0.35 where the caption is flat."
    )
    queue: LenientStr = Field("", description="Queues of pictures are not kept: leave it empty.")
    name_in_queue: LenientStr = Field("", description="As ``queue``.")


class Tagged(BaseModel):
    """Reply of ``/tagger/v1/interrogate``."""

    caption: dict[str, JsonValue] = Field(
        description="``rating`` and ``tag``, each name to score; where option tagger_caption_form is flat, both in one."
    )
    warnings: list[str] | None = Field(None, description="Fields without effect; left out where there are none.")


class Taggers(BaseModel):
    """Reply of ``/tagger/v1/interrogators``."""

    models: list[str]


def router(services: Services) -> APIRouter:
    """Routes ``interrogate``, ``interrogators`` and ``unload-interrogators``."""
    routes = APIRouter(prefix="/tagger/v1", tags=["tagger"])

    @routes.post("/interrogate", name="tagger_interrogate", **reply_of(Tagged))
    async def interrogate(body: TagBody) -> dict[str, JsonValue]:
        """The tags and ratings of a picture, the surest first."""
        if not body.image:
            raise NotFound("Image not found", hint="image is a base64 text")
        if body.queue or body.name_in_queue:
            raise InvalidRequest("queue and name_in_queue: no queues are kept", hint="send one picture a request")
        files = await services.run_in_thread(lambda: require_tagger(services, body.model))
        image = await services.decode_image(body.image)
        form = str(services.options[FORM])
        threshold = DEFAULT_THRESHOLDS[form] if body.threshold is None else body.threshold

        def work(control: JobControl) -> dict[str, float]:
            return tag_scores(files, flatten(image), services.worker_context(control))

        scores = await services.run_on_worker(work, kind="interrogate")
        reply: dict[str, JsonValue] = {"caption": caption(scores, threshold, form)}
        if said := body.unknown_warnings:
            reply["warnings"] = said
            for sentence in said:
                log.warning("/tagger/v1/interrogate: %s", sentence)
        return reply

    @routes.get("/interrogators", name="tagger_interrogators", **reply_of(Taggers))
    async def interrogators() -> dict[str, list[str]]:
        """The taggers whose files are there; the folders are looked through at every call."""
        return {"models": list(await services.run_in_thread(lambda: taggers(services)))}

    @routes.post("/unload-interrogators", name="tagger_unload", response_model=str)
    async def unload() -> str:
        """Drop the interrogators that option ``interrogate_keep_models_in_memory`` has kept in memory."""
        cache = services.models.cache
        dropped = await services.run_on_worker(lambda control: cache.drop(KIND), kind="unload-interrogators")
        return f"Successfully unload {dropped} model(s)"

    return routes


def caption(scores: dict[str, float], threshold: float, form: str) -> dict[str, JsonValue]:
    """The scores as the extensions group them.

    :param scores: name → probability; the names of ratings begin with ``rating:``.
    :param threshold: tags of a lower score are left out; ratings never are.
    :param form: ``grouped``: in ``rating`` and ``tag``; ``flat``: ratings first, then tags.
    """
    ordered = sorted(scores.items(), key=lambda entry: -entry[1])
    rating = {name.removeprefix(RATING): score for name, score in ordered if name.startswith(RATING)}
    tag = {name: score for name, score in ordered if not name.startswith(RATING) and score >= threshold}
    return {**rating, **tag} if form == FLAT else {"rating": rating, "tag": tag}
