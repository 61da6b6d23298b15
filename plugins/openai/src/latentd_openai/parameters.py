"""The parameters of OpenAI's images API, with latentd's own beside them; an unknown one is refused, as there."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from latentd.api import JsonValue

LARGEST_SEED = 2**64 - 1
Quality: TypeAlias = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]
Format: TypeAlias = Literal["png", "jpeg", "webp"]


def _listed(value: JsonValue) -> JsonValue:
    """One thing as a list of it, as clients send a single picture."""
    return value if value is None or isinstance(value, list) else [value]


class Parameters(BaseModel):
    """What every request for pictures may have; null means the same as leaving a field out."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="An id of /v1/models; by default the selected checkpoint.")
    n: int | None = Field(1, ge=1, le=10, description="Number of pictures.")
    size: str | None = Field("auto", description="`WIDTHxHEIGHT` in pixels, or `auto`.")
    response_format: Literal["b64_json", "url"] | None = Field(
        "b64_json", description="`url`: a signed URL that is valid for as long as the server keeps results."
    )
    user: str | None = Field(None, description="Accepted; the server does not look at it.")
    safety_identifier: str | None = Field(None, description="Accepted; the server does not look at it.")
    negative_prompt: str | None = Field(None, description="latentd's own: what the picture should not show.")
    seed: int | None = Field(-1, ge=-1, le=LARGEST_SEED, description="latentd's own: -1 draws one.")
    steps: int | None = Field(None, ge=1, description="latentd's own: sampling steps; wins over quality.")
    cfg_scale: float | None = Field(
        7.0, allow_inf_nan=False, description="latentd's own: scale of classifier-free guidance."
    )
    sampler: str | None = Field(None, description="latentd's own: a name of /sdapi/v1/samplers.")
    scheduler: str | None = Field(None, description="latentd's own: a label or name of /sdapi/v1/schedulers.")


class PromptParameters(Parameters):
    """What requests with a prompt may have."""

    prompt: str = Field(description="What the picture shows, in AUTOMATIC1111's prompt grammar.", min_length=1)
    quality: Quality | None = Field("auto", description="How many steps; see option openai_steps.")
    background: Literal["auto", "opaque", "transparent"] | None = Field("auto", description="`transparent` is refused.")
    moderation: Literal["auto", "low"] | None = Field(None, description="Without effect, which the answer says.")
    output_format: Format | None = Field("png", description="Format of the files.")
    output_compression: int | None = Field(None, ge=0, le=100, description="Quality of JPEG and WebP; 100 by default.")
    stream: bool | None = Field(False, description="Answer with server-sent events.")
    partial_images: int | None = Field(None, ge=0, le=3, description="Previews of each picture, when streaming.")


class CreateImageRequest(PromptParameters):
    """Body of ``/v1/images/generations``."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "a lighthouse at dusk, oil painting", "size": "512x512", "seed": 1}]}
    )

    style: Literal["vivid", "natural"] | None = Field(None, description="Without effect, which the answer says.")


class EditParameters(PromptParameters):
    """What an edit may have beside its pictures."""

    input_fidelity: Literal["high", "low"] | None = Field(None, description="`high`: a lower denoising strength.")
    strength: float | None = Field(None, ge=0, le=1, description="latentd's own: denoising strength, 0 to 1.")


class CreateImageEditRequest(EditParameters):
    """Body of ``/v1/images/edits`` as JSON; as a form, ``image`` (or ``image[]``) and ``mask`` are files."""

    image: Annotated[list[JsonValue] | None, BeforeValidator(_listed)] = Field(
        None, description="A data URL, base64 or, where allowed, an http(s) URL; or an object with `image_url`."
    )
    images: list[JsonValue] | None = Field(None, description="The same as `image`.")
    mask: JsonValue = Field(None, description="A picture of the same size; what is transparent in it is repainted.")


class CreateImageVariationRequest(Parameters):
    """Body of ``/v1/images/variations`` as JSON; as a form, ``image`` is a file."""

    image: Annotated[list[JsonValue] | None, BeforeValidator(_listed)] = Field(
        None, description="The picture, as for edits."
    )
    prompt: str | None = Field(None, description="latentd's own: what the picture shows.")
    strength: float | None = Field(None, ge=0, le=1, description="latentd's own: denoising strength, 0 to 1.")


class PictureEntry(BaseModel):
    """One picture of a reply: its file in base64, or its URL."""

    b64_json: str | None = None
    url: str | None = None
    seed: int | None = Field(None, description="latentd's own: the seed it was drawn with.")


class ImagesResponse(BaseModel):
    """Reply with pictures."""

    created: int = Field(description="Unix time in seconds.")
    data: list[PictureEntry]
    background: Literal["opaque"]
    output_format: Format
    quality: Literal["low", "medium", "high", "xhigh", "max"]
    size: str = Field(description="`WIDTHxHEIGHT` of the pictures.")
    warnings: list[str] | None = Field(None, description="latentd's own: what could not be done as asked.")


class ModelEntry(BaseModel):
    """A checkpoint as a model."""

    id: str = Field(description="The checkpoint's name.")
    object: Literal["model"] = "model"
    created: int = Field(description="When the file was written, Unix time in seconds.")
    owned_by: Literal["latentd"] = "latentd"


class ListModelsResponse(BaseModel):
    """Every checkpoint."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]


class ErrorDetail(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorResponse(BaseModel):
    """Every error below ``/v1``."""

    error: ErrorDetail
