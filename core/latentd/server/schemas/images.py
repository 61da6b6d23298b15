"""Bodies and replies of extras, png-info and interrogate."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from latentd.server.schemas.lenient import Bool, Dict, Float, Int, LenientModel, Str
from latentd.types import JsonValue


def _zero_or_one(value: int) -> int:
    if value not in (0, 1):
        context = {"given": value, "permitted": [0, 1]}
        raise PydanticCustomError("value_error.const", "unexpected value; permitted: 0, 1", context)
    return value


ResizeMode = Annotated[Int, AfterValidator(_zero_or_one), WithJsonSchema({"type": "integer", "enum": [0, 1]})]
Share = Annotated[Float, Field(ge=0, le=1)]


class ExtrasFields(LenientModel):
    """Fields of both extras endpoints."""

    resize_mode: ResizeMode = Field(0, description="0: by upscaling_resize; 1: to upscaling_resize_w and _h.")
    show_extras_results: Bool = Field(True, description="Without effect over the API.")
    gfpgan_visibility: Share = Field(0, description="Share of GFPGAN's faces.")
    codeformer_visibility: Share = Field(0, description="Share of CodeFormer's faces.")
    codeformer_weight: Share = Field(0, description="CodeFormer's fidelity; 0 changes most.")
    upscaling_resize: Annotated[Float, Field(ge=1, le=8)] = Field(2, description="Factor.")
    upscaling_resize_w: Annotated[Int, Field(ge=1)] = Field(512, description="Width in pixels.")
    upscaling_resize_h: Annotated[Int, Field(ge=1)] = Field(512, description="Height in pixels.")
    upscaling_crop: Bool = Field(True, description="Mode 1: cut to exactly that size.")
    upscaler_1: Str = Field("None", description="A name of /sdapi/v1/upscalers.")
    upscaler_2: Str = Field("None", description="A second one, blended on top.")
    extras_upscaler_2_visibility: Share = Field(0, description="Share of the second upscaler.")
    upscale_first: Bool = Field(False, description="Without effect: option postprocessing_operation_order decides.")
    max_side_length: Annotated[Int, Field(ge=0)] = Field(0, description="Longest side of the result; 0: no limit.")
    postprocessors: dict[str, Bool | Dict] | None = Field(
        None, description="Steps by name: false leaves one out, true or an object of its parameters has it run."
    )


class ExtrasSingleImageRequest(ExtrasFields):
    """Body of ``/sdapi/v1/extra-single-image``."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"image": "iVBORw0KGgo...", "upscaler_1": "Lanczos"}]})

    image: Str = Field("", description="Base64, data URL or, where allowed, http(s) URL.")


class FileData(LenientModel):
    """A picture with its file name."""

    data: Str = Field(description="Base64 or data URL.")
    name: Str = Field(description="File name.")


class ExtrasBatchImagesRequest(ExtrasFields):
    """Body of ``/sdapi/v1/extra-batch-images``."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"imageList": [{"data": "iVBORw0KGgo...", "name": "a.png"}]}]}
    )

    files: list[FileData] = Field(alias="imageList", description="The pictures.")


class ExtrasSingleImageResponse(BaseModel):
    """Reply of ``/sdapi/v1/extra-single-image``."""

    html_info: str = Field(description="What was done, as HTML.")
    image: str = Field(description="Base64 file.")


class ExtrasBatchImagesResponse(BaseModel):
    """Reply of ``/sdapi/v1/extra-batch-images``."""

    html_info: str = Field(description="What was done to the last picture, as HTML.")
    images: list[str] = Field(description="Base64 files.")


class PNGInfoRequest(LenientModel):
    """Body of ``/sdapi/v1/png-info``."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"image": "iVBORw0KGgo..."}]})

    image: Str = Field(description="Base64 or data URL.")


class PNGInfoResponse(BaseModel):
    """Reply of ``/sdapi/v1/png-info``."""

    info: str = Field(description="The infotext, or an empty text.")
    items: dict[str, JsonValue] = Field(description="Every text entry of the file.")
    parameters: dict[str, JsonValue] = Field(description="The infotext, parsed.")


class InterrogateRequest(LenientModel):
    """Body of ``/sdapi/v1/interrogate``."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"image": "iVBORw0KGgo...", "model": "clip"}]})

    image: Str | None = Field("", description="Base64 or data URL.")
    model: Str = Field("clip", description="clip, deepdanbooru, or what a plugin offers.")


class InterrogateResponse(BaseModel):
    """Reply of ``/sdapi/v1/interrogate``."""

    caption: str
