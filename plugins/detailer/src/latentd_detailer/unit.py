"""A unit: one detector and how what it finds is repainted. Names, order, defaults and bounds are the original's."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, WithJsonSchema

from latentd.api import JsonValue, LenientBool, LenientFloat, LenientInt, LenientModel, LenientStr

NONE = "None"
MERGED, INVERTED = "Merge", "Merge and Invert"
#: Widest brush and shift, in pixels: as wide as the largest pictures.
FARTHEST = 8192


def _within(kind: str, low: float, high: float | None = None) -> WithJsonSchema:
    """The bounds in the schema, where the lenient types tell none."""
    return WithJsonSchema({"type": kind, "minimum": low} | ({} if high is None else {"maximum": high}))


Share = Annotated[LenientFloat, Field(ge=0, le=1), _within("number", 0, 1)]
Count = Annotated[LenientInt, Field(ge=0), _within("integer", 0)]
Pixels = Annotated[LenientInt, Field(ge=0, le=FARTHEST), _within("integer", 0, FARTHEST)]
Distance = Annotated[LenientInt, Field(ge=-FARTHEST, le=FARTHEST), _within("integer", -FARTHEST, FARTHEST)]
Some = Annotated[LenientInt, Field(ge=1), _within("integer", 1)]
Scale = Annotated[LenientFloat, Field(ge=0), _within("number", 0)]
Multiplier = Annotated[LenientFloat, Field(ge=0.5, le=1.5), _within("number", 0.5, 1.5)]
ClipSkip = Annotated[LenientInt, Field(ge=1, le=12), _within("integer", 1, 12)]


class Unit(LenientModel):
    """One detector and how what it finds is repainted."""

    ad_model: LenientStr = Field(NONE, description="A name of /adetailer/v1/ad_model; None leaves the unit out.")
    ad_model_classes: LenientStr = Field("", description="Names of the detector's classes, with commas; empty: all.")
    ad_tab_enable: LenientBool = Field(
        True,
        validation_alias=AliasChoices("ad_tab_enable", "ad_tap_enable"),
        description="False leaves the unit out.",
    )
    ad_prompt: LenientStr = Field("", description="[SEP] parts it by region, [SKIP] leaves one out, [PROMPT]: the own.")
    ad_negative_prompt: LenientStr = Field("", description="As ad_prompt; empty: the request's.")
    ad_confidence: Share = Field(0.3, description="The least score.")
    ad_mask_filter_method: Literal["Area", "Confidence"] = Field("Area", description="Which regions ad_mask_k keeps.")
    ad_mask_k: Count = Field(
        0,
        validation_alias=AliasChoices("ad_mask_k", "ad_mask_k_largest"),
        description="How many regions are kept; 0: all.",
    )
    ad_mask_min_ratio: Share = Field(0.0, description="The least share of the picture that a region's box covers.")
    ad_mask_max_ratio: Share = Field(1.0, description="The greatest share of the picture that a region's box covers.")
    ad_dilate_erode: Distance = Field(4, description="Pixels by which masks grow, or shrink below 0.")
    ad_x_offset: Distance = Field(0, description="Pixels by which masks move to the right.")
    ad_y_offset: Distance = Field(0, description="Pixels by which masks move up.")
    ad_mask_merge_invert: Literal["None", "Merge", "Merge and Invert"] = Field(
        "None", description="Repaint all regions at once, or all but them."
    )
    ad_mask_blur: Pixels = Field(4, description="Blur of a mask's edge, in pixels.")
    ad_denoising_strength: Share = Field(0.4, description="Strength of the repaint.")
    ad_inpaint_only_masked: LenientBool = Field(True, description="Repaint the region alone, enlarged.")
    ad_inpaint_only_masked_padding: Pixels = Field(32, description="Pixels around the region that are seen.")
    ad_use_inpaint_width_height: LenientBool = Field(False, description="Use the size below.")
    ad_inpaint_width: Some = Field(512, description="Width at which regions are repainted.")
    ad_inpaint_height: Some = Field(512, description="Height at which regions are repainted.")
    ad_use_steps: LenientBool = Field(False, description="Use the steps below.")
    ad_steps: Some = Field(28, description="Steps of the repaint.")
    ad_use_cfg_scale: LenientBool = Field(False, description="Use the scale below.")
    ad_cfg_scale: Scale = Field(7.0, description="CFG scale of the repaint.")
    ad_use_checkpoint: LenientBool = Field(False, description="Use the checkpoint below.")
    ad_checkpoint: LenientStr | None = Field(None, description="Checkpoint of the repaint.")
    ad_use_vae: LenientBool = Field(False, description="Use the VAE below.")
    ad_vae: LenientStr | None = Field(None, description="VAE of the repaint.")
    ad_use_sampler: LenientBool = Field(False, description="Use the sampler and the scheduler below.")
    ad_sampler: LenientStr = Field("DPM++ 2M Karras", description="Sampler of the repaint.")
    ad_scheduler: LenientStr = Field("Use same scheduler", description="Scheduler of the repaint.")
    ad_use_noise_multiplier: LenientBool = Field(False, description="Use the multiplier below.")
    ad_noise_multiplier: Multiplier = Field(1.0, description="Multiplier of the repaint's noise.")
    ad_use_clip_skip: LenientBool = Field(False, description="Use the clip skip below.")
    ad_clip_skip: ClipSkip = Field(1, description="Clip skip of the repaint.")
    ad_restore_face: LenientBool = Field(False, description="Restore faces after the repaint.")
    ad_controlnet_model: LenientStr = Field(NONE, description="Control model; Passthrough: the request's units.")
    ad_controlnet_module: LenientStr = Field(NONE, description="Its preprocessor; None: the one that fits its name.")
    ad_controlnet_weight: Share = Field(1.0, description="Its strength.")
    ad_controlnet_guidance_start: Share = Field(0.0, description="Share of the steps after which it acts.")
    ad_controlnet_guidance_end: Share = Field(1.0, description="Share of the steps up to which it acts.")
    is_api: JsonValue = Field(True, description="The web page's own; not used.", exclude=True)

    @property
    def is_off(self) -> bool:
        """Whether the unit is left out."""
        return self.ad_model in ("", NONE) or not self.ad_tab_enable

    @property
    def classes(self) -> frozenset[str]:
        """The detector's classes that are wanted, in lower case; empty for all."""
        return frozenset(name for part in self.ad_model_classes.split(",") if (name := part.strip().lower()))
