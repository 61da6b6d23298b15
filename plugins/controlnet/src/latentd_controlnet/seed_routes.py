"""``/controlnet/txt2img`` and ``/img2img`` of February and March 2023: the ordinary endpoints with control units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from latentd.api import APIRouter, JsonValue, Services
from latentd_controlnet.script import ControlNetScript
from latentd_controlnet.unit import ALIASES, FIELDS

TITLE = ControlNetScript.title
UNITS = "controlnet_units"
PREFIX = "controlnet_"
#: The very first API had no list of units; its fields ``controlnet_<field>`` make one more, before those in the list.
FLAT = tuple(sorted({*FIELDS, *ALIASES} - {"enabled"}))
#: The client webuiapi sent this one without the prefix.
GUESS_MODE = "guess_mode"
#: In the flat form a picture is a list with one entry.
PICTURES = frozenset({"image", "input_image", "mask", "mask_image", "effective_region_mask"})
#: The text that interactive API documentation fills in; people send its example unchanged.
PLACEHOLDER = "string"
NAMES = ("sampler_name", "script_name", "hr_upscaler")


class Controlled(Protocol):
    """What both bodies have beside the fields ``controlnet_<field>`` of :data:`FLAT`."""

    alwayson_scripts: Mapping[str, JsonValue] | None
    controlnet_units: list[dict[str, JsonValue]]
    guess_mode: JsonValue

    @property
    def model_fields_set(self) -> set[str]:
        """The fields that were sent."""

    @property
    def unknown_warnings(self) -> list[str]:
        """What an answer says of each field that is not known."""


def seed_router(services: Services) -> APIRouter:
    """The two generation routes of the extension's first API."""
    from latentd.api import Img2ImgRequest, Txt2ImgRequest, answer_generation

    router = APIRouter(prefix="/controlnet", tags=["controlnet"])
    deprecated = (JsonValue, Field(None, description="Deprecated: a unit's field."))
    flat = {GUESS_MODE: deprecated, **{PREFIX + name: deprecated for name in FLAT}}

    class ControlNetTxt2Img(Txt2ImgRequest):
        """Body of txt2img with control units."""

        controlnet_units: list[dict[str, JsonValue]] = Field(default_factory=list, description="Control units.")

    class ControlNetImg2Img(Img2ImgRequest):
        """Body of img2img with control units."""

        controlnet_units: list[dict[str, JsonValue]] = Field(default_factory=list, description="Control units.")

    txt2img_body, img2img_body = (_with_fields(model, flat) for model in (ControlNetTxt2Img, ControlNetImg2Img))

    async def answer(
        body: Controlled, plain: type[Txt2ImgRequest] | type[Img2ImgRequest], request: Request
    ) -> Response:
        warnings = body.unknown_warnings
        units = flat_units(body, warnings) + list(body.controlnet_units)
        scripts = dict(body.alwayson_scripts or {})
        fields = {name: getattr(body, name) for name in body.model_fields_set if name in plain.model_fields}
        for name in NAMES:
            if fields.get(name) == PLACEHOLDER:
                fields[name] = None
                warnings.append(f"{name} is {PLACEHOLDER!r}, a placeholder of descriptions, and taken for none")
        fields["alwayson_scripts"] = _with_units(scripts, units)
        echoed = {"alwayson_scripts": scripts, UNITS: body.controlnet_units}
        reply: Response = await answer_generation(
            services, plain.model_validate(fields), request, echoed=echoed, warnings=warnings
        )
        return reply

    async def txt2img(body: Controlled, request: Request) -> Response:
        """Make pictures from a text, under control."""
        return await answer(body, Txt2ImgRequest, request)

    async def img2img(body: Controlled, request: Request) -> Response:
        """Make pictures from pictures and a text, under control."""
        return await answer(body, Img2ImgRequest, request)

    for route, model in ((txt2img, txt2img_body), (img2img, img2img_body)):
        # The models are created here, so FastAPI must get them as values, not as names.
        route.__annotations__ = {"body": model, "request": Request, "return": Response}
        router.post(f"/{route.__name__}")(route)
    return router


def _with_fields(model: type[BaseModel], fields: Mapping[str, tuple[object, object]]) -> type[BaseModel]:
    from pydantic import create_model

    definitions: dict[str, JsonValue] = dict(fields)
    made: type[BaseModel] = create_model(model.__name__, __base__=model, __doc__=model.__doc__, **definitions)
    return made


def flat_units(body: Controlled, warnings: list[str]) -> list[dict[str, JsonValue]]:
    """The unit in the body's fields ``controlnet_<field>``, if any; ``warnings`` gets what is ignored."""
    unit: dict[str, JsonValue] = {}
    for name in FLAT:
        value = getattr(body, PREFIX + name)
        if isinstance(value, list) and name in PICTURES:
            if len(value) > 1:
                warnings.append(f"{PREFIX}{name}: only the first of {len(value)} pictures acts, as in the original")
            value = value[0] if value else None
        if value is not None:
            unit[name] = value
    if unit and body.guess_mode is not None:
        unit.setdefault("guessmode", body.guess_mode)
    return [unit] if unit else []


def _with_units(scripts: Mapping[str, JsonValue], units: list[dict[str, JsonValue]]) -> dict[str, JsonValue]:
    """``scripts`` with ControlNet's arguments replaced by ``units``, to be read by the rules of March 2023."""
    others = {title: entry for title, entry in scripts.items() if title.lower() != TITLE.lower()}
    return {**others, TITLE: {"args": {"style": "seed", "units": units}}}
