"""Routes ``/controlnet/...`` of the original: lists, settings, detection."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from latentd.api import APIRouter, InvalidRequest, JsonValue, NotFound, PreprocessorSpec, Services, near_matches
from latentd_controlnet import replies
from latentd_controlnet.detection import detect
from latentd_controlnet.model_files import list_models
from latentd_controlnet.model_tags import control_types
from latentd_controlnet.preprocessors.table import NOT_DETECTABLE, in_order

if TYPE_CHECKING:
    from collections.abc import Mapping

API_VERSION = 3
MAX_PICTURES = 64


def _a_list(value: JsonValue) -> JsonValue:
    return [] if value is None else [value] if isinstance(value, str) else value


Texts = Annotated[list[str], BeforeValidator(_a_list)]


class DetectBody(BaseModel):
    """Body of ``/controlnet/detect``."""

    model_config = ConfigDict(title="Body_detect_controlnet_detect_post")

    controlnet_module: str = Field("none", description="A name of /controlnet/module_list.")
    controlnet_input_images: Texts = Field(
        default_factory=list,
        # The client webuiapi sends the second name, which the original never had.
        validation_alias=AliasChoices("controlnet_input_images", "controlnet_images"),
        description="Base64 texts.",
    )
    controlnet_masks: Texts = Field(default_factory=list, description="Base64 texts, for modules that need a mask.")
    controlnet_processor_res: float = Field(-1, description="Short side in pixels; -1: the module's own.")
    controlnet_threshold_a: float = Field(-1, description="First slider; -1: the module's own.")
    controlnet_threshold_b: float = Field(-1, description="Second slider; -1: the module's own.")
    low_vram: bool = Field(False, description="Accepted and ignored.")


class Person(BaseModel):
    """One body: x, y and confidence of each point, in a row; in pixels or as shares of the canvas."""

    pose_keypoints_2d: list[float]
    hand_right_keypoints_2d: list[float] | None = None
    hand_left_keypoints_2d: list[float] | None = None
    face_keypoints_2d: list[float] | None = None


class PoseData(BaseModel):
    """One picture's poses in OpenPose's JSON."""

    people: list[Person] = Field(default_factory=list)
    animals: list[JsonValue] = Field(default_factory=list)
    canvas_height: int = Field(..., ge=1, le=8192)
    canvas_width: int = Field(..., ge=1, le=8192)


def list_router(services: Services) -> APIRouter:
    """The routes that list models, modules, control types and settings."""
    from latentd.api import reply_of

    router = APIRouter(prefix="/controlnet", tags=["controlnet"])

    @router.get("/version", **reply_of(replies.ControlNetVersion))
    async def version() -> dict[str, int]:
        """Version of this API."""
        return {"version": API_VERSION}

    @router.get("/model_list", **reply_of(replies.ControlModelList))
    async def model_list(update: bool = True) -> dict[str, list[str]]:
        """Control models; the folders are looked through at every call."""
        return {"model_list": [file.title for file in await services.run_in_thread(lambda: list_models(services))]}

    @router.get("/module_list", **reply_of(replies.ModuleList))
    async def module_list(alias_names: bool = False) -> dict[str, JsonValue]:
        """Preprocessors and their sliders; with ``alias_names`` under their labels."""
        specs = modules(services)
        names = [(spec.label or spec.name) if alias_names else spec.name for spec in specs]
        return {
            "module_list": names,
            "module_detail": {name: _detail(spec) for name, spec in zip(names, specs, strict=True)},
        }

    @router.get("/control_types", name="control_types", **reply_of(replies.ControlTypes))
    async def types() -> dict[str, JsonValue]:
        """Modules and models by what they are for."""
        files = await services.run_in_thread(lambda: list_models(services))
        return {"control_types": control_types(modules(services), [file.title for file in files])}

    @router.get("/settings", **reply_of(replies.ControlNetSettings))
    async def settings() -> dict[str, int]:
        """How many units a page should show."""
        return {"control_net_unit_count": int(services.options["control_net_unit_count"])}

    return router


def detect_router(services: Services) -> APIRouter:
    """The routes that run preprocessors without generating a picture."""
    from latentd.api import reply_of

    router = APIRouter(prefix="/controlnet", tags=["controlnet"])

    @router.post("/detect", name="detect", **reply_of(replies.Detected))
    async def run_detect(body: DetectBody) -> dict[str, JsonValue]:
        """The control maps that a module makes of pictures."""
        spec = _detectable(services, body)
        decode = services.image_decoder()
        given = (body.controlnet_input_images, body.controlnet_masks)
        images, masks = await services.run_in_thread(lambda: [[decode(text) for text in texts] for texts in given])
        sent = body.controlnet_processor_res, body.controlnet_threshold_a, body.controlnet_threshold_b
        found = await services.run_on_worker(
            lambda control: detect(spec, images, masks, sent, control, services), kind="controlnet-detect"
        )
        reply: dict[str, JsonValue] = {"info": "Success"}
        if found.images:
            reply["images"] = [await services.encode_image(image) for image in found.images]
        if found.tensors:
            reply["tensor"] = found.tensors
        if found.poses:
            reply["poses"] = [json.loads(pose) for pose in found.poses]
        return reply

    @router.post("/render_openpose_json", name="render_openpose_json", **reply_of(replies.RenderedPoses))
    async def render(body: list[PoseData]) -> dict[str, JsonValue]:
        """Drawings of poses."""
        from PIL import Image

        from latentd_controlnet.poses import draw_poses

        if not body:
            return {"info": "No pose data detected."}
        if len(body) > MAX_PICTURES:
            raise InvalidRequest(f"more than {MAX_PICTURES} pictures")
        drawn = await services.run_on_worker(
            lambda control: [
                draw_poses([person.model_dump() for person in entry.people], entry.canvas_width, entry.canvas_height)
                for entry in body
            ],
            kind="controlnet-openpose",
        )
        return {"images": [await services.encode_image(Image.fromarray(image)) for image in drawn], "info": "Success"}

    return router


def modules(services: Services) -> list[PreprocessorSpec]:
    """Every registered preprocessor, in the order of the lists."""
    return in_order(list(services.registry.preprocessors.values()))


def _detail(spec: PreprocessorSpec) -> Mapping[str, JsonValue]:
    sliders = [] if spec.resolution is None else [("Resolution", *spec.resolution)]
    rows: list[JsonValue] = [*sliders, *spec.sliders]
    return {
        "model_free": spec.model_free,
        "sliders": [
            {"name": name, "value": value, "min": low, "max": high, "step": step}
            for name, low, high, value, step in rows
        ],
    }


def _detectable(services: Services, body: DetectBody) -> PreprocessorSpec:
    """The preprocessor of the request.

    :raises InvalidRequest: it cannot run; the message has the original's words.
    """
    registry = services.registry.preprocessors
    spec: PreprocessorSpec | None = registry.find(body.controlnet_module)
    if spec is None:
        hint = near_matches(body.controlnet_module, list(registry))
        raise NotFound("Module not available", hint=hint, status=422)
    if spec.name in NOT_DETECTABLE:
        raise InvalidRequest("Module not supported", hint=f"{spec.name} makes no picture")
    if not body.controlnet_input_images:
        raise InvalidRequest("No image selected", hint="send controlnet_input_images, a list of base64 texts")
    if max(len(body.controlnet_input_images), len(body.controlnet_masks)) > MAX_PICTURES:
        raise InvalidRequest(f"more than {MAX_PICTURES} pictures")
    if spec.needs_mask and len(body.controlnet_masks) != len(body.controlnet_input_images):
        raise InvalidRequest(f"Preprocessor {body.controlnet_module} requires `controlnet_masks` param.")
    return spec
