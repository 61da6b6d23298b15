"""A unit in OpenAPI and its default in ``/sdapi/v1/script-info``; the module ``unit`` reads units."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from latentd.api import JsonValue


class UnitBody(BaseModel):
    """One control. Names of earlier versions are taken as well (input_image, lowvram, guidance, guessmode...)."""

    model_config = ConfigDict(extra="allow")

    enabled: bool = Field(True, description="False leaves the unit out.")
    module: str = Field("none", description="A name of /controlnet/module_list.")
    model: str = Field("None", description="A name of /controlnet/model_list, with or without its hash.")
    weight: float = Field(1.0, description="Strength.")
    image: JsonValue = Field(None, description="Base64 text, {image, mask}, or a list of these. Null: img2img's.")
    mask: JsonValue = Field(None, description="Base64 text; the size of image.")
    resize_mode: str | int = Field("Crop and Resize", description="Just Resize, Crop and Resize, Resize and Fill; 0-2.")
    processor_res: float = Field(-1, description="Short side in pixels at which the module works; -1: its own.")
    threshold_a: float = Field(-1, description="First slider of the module; -1: its own.")
    threshold_b: float = Field(-1, description="Second slider of the module; -1: its own.")
    guidance_start: float = Field(0.0, description="Share of the steps after which the unit acts.")
    guidance_end: float = Field(1.0, description="Share of the steps up to which the unit acts.")
    control_mode: str | int = Field(
        "Balanced", description="Balanced, My prompt is more important, ControlNet is more important; 0-2."
    )
    pixel_perfect: bool = Field(False, description="Work at the picture's own resolution.")
    inpaint_crop_input_image: bool = Field(True, description="Follow img2img's only-masked region.")
    hr_option: str = Field("Both", description="Both, Low res only, High res only.")
    save_detected_map: bool = Field(True, description="Append the control map to the reply.")
    advanced_weighting: list[float] | None = Field(None, description="A scale for each layer in place of weight.")
    effective_region_mask: str | None = Field(None, description="Base64 text: where in the picture the unit acts.")
    union_control_type: str = Field("Unknown", description="Which control a union model is given.")
    ipadapter_input: JsonValue = Field(None, description="Base64 of a safetensors file with image embeddings.")


def default_unit() -> dict[str, JsonValue]:
    """The default unit, with the keys of the original in their order, including those of its web page."""
    return {
        "is_ui": False,
        "input_mode": "simple",
        "batch_images": None,
        "output_dir": "",
        "loopback": False,
        "enabled": False,
        "module": "none",
        "model": "None",
        "weight": 1.0,
        "image": None,
        "resize_mode": "Crop and Resize",
        "low_vram": False,
        "processor_res": -1,
        "threshold_a": -1,
        "threshold_b": -1,
        "guidance_start": 0.0,
        "guidance_end": 1.0,
        "pixel_perfect": False,
        "control_mode": "Balanced",
        "inpaint_crop_input_image": True,
        "hr_option": "Both",
        "save_detected_map": True,
        "advanced_weighting": None,
        "effective_region_mask": None,
        "pulid_mode": "Fidelity",
        "union_control_type": "Unknown",
        "ipadapter_input": None,
        "mask": None,
        "batch_mask_dir": None,
        "animatediff_batch": False,
        "batch_modifiers": [],
        "batch_image_files": [],
        "batch_keyframe_idx": None,
    }
