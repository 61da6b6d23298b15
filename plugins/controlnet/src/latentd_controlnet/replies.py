"""The replies of the routes, for the OpenAPI document only; replies are not built from these models."""

from __future__ import annotations

from pydantic import BaseModel, Field

from latentd.api import JsonValue


class ControlNetVersion(BaseModel):
    """Version of the extension's API."""

    version: int


class ControlNetSettings(BaseModel):
    """What a page needs to know."""

    control_net_unit_count: int = Field(description="How many units a page should show.")


class ControlModelList(BaseModel):
    """Control models."""

    model_list: list[str]


class ModuleSlider(BaseModel):
    """A number that a preprocessor takes."""

    name: str
    value: float = Field(description="Where it stands at first.")
    min: float
    max: float
    step: float


class ModuleDetail(BaseModel):
    """What a preprocessor takes."""

    model_free: bool = Field(description="It works without a control model.")
    sliders: list[ModuleSlider] = Field(description="The resolution, then thresholds a and b.")


class ModuleList(BaseModel):
    """Preprocessors."""

    module_list: list[str]
    module_detail: dict[str, ModuleDetail]


class ControlType(BaseModel):
    """What serves one purpose, and what of it to begin with."""

    module_list: list[str]
    model_list: list[str]
    default_option: str
    default_model: str


class ControlTypes(BaseModel):
    """Preprocessors and models by purpose."""

    control_types: dict[str, ControlType]


class Detected(BaseModel):
    """Control maps: pictures, or tensors for modules that make none."""

    info: str
    images: list[str] | None = Field(None, description="Base64 files.")
    tensor: list[str] | None = Field(None, description="Base64 of safetensors files.")
    poses: list[JsonValue] | None = Field(None, description="Poses in OpenPose's JSON, one entry a picture.")


class RenderedPoses(BaseModel):
    """Drawings of poses."""

    info: str
    images: list[str] | None = Field(None, description="Base64 files.")
