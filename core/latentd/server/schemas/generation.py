"""Bodies of txt2img and img2img, both API generations in one; fields stand in the order in which they are echoed."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from latentd.server.schemas.lenient import Arguments, Bool, Dict, Float, Int, LenientModel, Seed, Str
from latentd.types import JsonValue


def _title(model: type) -> str:
    """A class's own ``schema_name``, which its subclasses do not share, or else its name."""
    name: str = vars(model).get("schema_name", model.__name__)
    return name


class CommonFields(LenientModel):
    """Fields of both endpoints. Every one may be null, which means the same as leaving it out."""

    model_config = ConfigDict(model_title_generator=_title)

    #: What the OpenAPI document calls a body whose class has a shorter name in ``latentd.api``.
    schema_name: ClassVar[str]
    # Fields of 1.9 and later, and our own: echoed only where the client sent them, so that 1.8's echo stays exact.
    echoed_when_sent: ClassVar[frozenset[str]] = frozenset({"scheduler", "hr_scheduler"})

    prompt: Str | None = Field("", description="What the picture shows, in AUTOMATIC1111's prompt grammar.")
    negative_prompt: Str | None = Field("", description="What it should not show.")
    styles: list[Str] | None = Field(None, description="Names from the styles file; unknown ones are ignored.")
    seed: Seed | None = Field(-1, description="Seed of the first picture; -1 draws one.")
    subseed: Seed | None = Field(-1, description="Seed of the variation; -1 draws one.")
    subseed_strength: Float | None = Field(0, description="Share of the variation's noise, 0 to 1.")
    seed_resize_from_h: Int | None = Field(-1, description="Height in pixels at which the noise is drawn; -1: as is.")
    seed_resize_from_w: Int | None = Field(-1, description="Width in pixels at which the noise is drawn; -1: as is.")
    sampler_name: Str | None = Field(None, description="A name of /sdapi/v1/samplers.")
    batch_size: Int | None = Field(1, description="Pictures made at once.")
    n_iter: Int | None = Field(1, description="Batches, one after the other.")
    steps: Int | None = Field(50, description="Sampling steps.")
    cfg_scale: Float | None = Field(7.0, description="How strongly the prompt guides.")
    width: Int | None = Field(512, description="Width in pixels.")
    height: Int | None = Field(512, description="Height in pixels.")
    restore_faces: Bool | None = Field(None, description="Restore faces; null: option face_restoration.")
    tiling: Bool | None = Field(None, description="A picture that tiles; null: option tiling.")
    do_not_save_samples: Bool | None = Field(False, description="Without effect: save_images decides.")
    do_not_save_grid: Bool | None = Field(False, description="Without effect: save_images decides.")
    eta: Float | None = Field(None, description="Noise of ancestral samplers; null: options eta_ancestral, eta_ddim.")
    denoising_strength: Float | None = Field(None, description="How far img2img or hires fix departs, 0 to 1.")
    s_min_uncond: Float | None = Field(None, description="Sigma below which the negative prompt is left out.")
    s_churn: Float | None = Field(None, description="Stochasticity of Euler, Heun and DPM2.")
    s_tmax: Float | None = Field(None, description="Largest sigma with churn; null and 0: infinite.")
    s_tmin: Float | None = Field(None, description="Smallest sigma with churn.")
    s_noise: Float | None = Field(None, description="Scale of the churn's noise.")
    override_settings: Dict | None = Field(None, description="Options that count for this request alone.")
    override_settings_restore_afterwards: Bool | None = Field(
        True, description="False: the overrides stay as options after the request."
    )
    refiner_checkpoint: Str | None = Field(None, description="Checkpoint that takes over at refiner_switch_at.")
    refiner_switch_at: Float | None = Field(None, description="Part of the steps after which the refiner takes over.")
    disable_extra_networks: Bool | None = Field(False, description="Strip <lora:...> tags without applying them.")
    firstpass_image: Str | None = Field(None, description="A picture in place of the first pass of hires fix.")
    comments: Dict | None = Field(None, description="Accepted and ignored.")


class Txt2ImgRequest(CommonFields):
    """Body of ``/sdapi/v1/txt2img``."""

    schema_name = "StableDiffusionProcessingTxt2Img"
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "prompt": "a lighthouse at dusk, oil painting",
                    "negative_prompt": "blurry",
                    "seed": 1,
                    "steps": 20,
                    "sampler_name": "DPM++ 2M Karras",
                    "width": 512,
                    "height": 512,
                }
            ]
        }
    )

    enable_hr: Bool | None = Field(False, description="Hires fix: enlarge, then sample again.")
    firstphase_width: Int | None = Field(0, description="First-pass width; replaces width, which becomes the target.")
    firstphase_height: Int | None = Field(0, description="First-pass height, likewise.")
    hr_scale: Float | None = Field(2.0, description="Factor of hires fix.")
    hr_upscaler: Str | None = Field(None, description="A latent upscale mode or an upscaler; null: Latent.")
    hr_second_pass_steps: Int | None = Field(0, description="Steps of the second pass; 0: as the first.")
    hr_resize_x: Int | None = Field(0, description="Target width in place of hr_scale.")
    hr_resize_y: Int | None = Field(0, description="Target height in place of hr_scale.")
    hr_checkpoint_name: Str | None = Field(None, description="Checkpoint of the second pass; null: the same.")
    hr_sampler_name: Str | None = Field(None, description="Sampler of the second pass; null: the same.")
    hr_prompt: Str | None = Field("", description="Prompt of the second pass; empty: the same.")
    hr_negative_prompt: Str | None = Field("", description="Negative prompt of the second pass; empty: the same.")
    force_task_id: Str | None = Field(None, description="Id of the job, for /progress?id_task= and the jobs API.")
    sampler_index: Str | None = Field("Euler", description="Sampler where sampler_name is empty.")
    script_name: Str | None = Field(None, description="Title of a selectable script.")
    script_args: Arguments | None = Field(default_factory=list, description="Its arguments, by position or by name.")
    send_images: Bool | None = Field(True, description="False: reply without pictures.")
    save_images: Bool | None = Field(False, description="Write the pictures to the output folders, too.")
    alwayson_scripts: Dict | None = Field(default_factory=dict, description='Scripts: {"title": {"args": [...]}}.')
    infotext: Str | None = Field(None, description="A picture's infotext; fills fields that the request leaves out.")
    scheduler: Str | None = Field(None, description="A label or name of /sdapi/v1/schedulers.")
    hr_scheduler: Str | None = Field(None, description="Schedule of the second pass; null: the same.")


class Img2ImgRequest(CommonFields):
    """Body of ``/sdapi/v1/img2img``."""

    schema_name = "StableDiffusionProcessingImg2Img"
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "init_images": ["iVBORw0KGgo..."],
                    "prompt": "the same house in winter",
                    "denoising_strength": 0.6,
                    "seed": 1,
                    "steps": 20,
                    "sampler_name": "Euler a",
                }
            ]
        }
    )

    denoising_strength: Float | None = Field(0.75, description="How far the result departs from the picture, 0 to 1.")
    init_images: list[Str] | None = Field(None, description="Base64, data URL or, where allowed, http(s) URL.")
    resize_mode: Int | None = Field(0, description="0 stretch, 1 crop, 2 fit and fill, 3 stretch the latent.")
    image_cfg_scale: Float | None = Field(None, description="Guidance by the picture (instruct-pix2pix models).")
    mask: Str | None = Field(None, description="White is painted anew.")
    mask_blur_x: Int | None = Field(4, description="Blur of the mask along x, pixels.")
    mask_blur_y: Int | None = Field(4, description="Blur of the mask along y, pixels.")
    mask_blur: Int | None = Field(None, description="Both at once; wins over them.")
    mask_round: Bool | None = Field(True, description="Round the latent mask to 0 and 1.")
    inpainting_fill: Int | None = Field(0, description="0 fill, 1 original, 2 latent noise, 3 latent nothing.")
    inpaint_full_res: Bool | None = Field(True, description="Paint the masked region at full size.")
    inpaint_full_res_padding: Int | None = Field(0, description="Pixels around that region.")
    inpainting_mask_invert: Int | None = Field(0, description="1: paint what is not masked.")
    initial_noise_multiplier: Float | None = Field(None, description="Null: option initial_noise_multiplier.")
    latent_mask: Str | None = Field(None, description="A mask for the latent in place of mask.")
    force_task_id: Str | None = Field(None, description="Id of the job, for /progress?id_task= and the jobs API.")
    sampler_index: Str | None = Field("Euler", description="Sampler where sampler_name is empty.")
    include_init_images: Bool | None = Field(False, description="Echo init_images and mask in parameters.")
    script_name: Str | None = Field(None, description="Title of a selectable script.")
    script_args: Arguments | None = Field(default_factory=list, description="Its arguments, by position or by name.")
    send_images: Bool | None = Field(True, description="False: reply without pictures.")
    save_images: Bool | None = Field(False, description="Write the pictures to the output folders, too.")
    alwayson_scripts: Dict | None = Field(default_factory=dict, description='Scripts: {"title": {"args": [...]}}.')
    infotext: Str | None = Field(None, description="A picture's infotext; fills fields that the request leaves out.")
    scheduler: Str | None = Field(None, description="A label or name of /sdapi/v1/schedulers.")


class Txt2ImgJob(Txt2ImgRequest):
    """A txt2img request as a job."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"mode": "txt2img", "prompt": "a lighthouse at dusk, oil painting", "steps": 20}]
        }
    )

    mode: Literal["txt2img"] = "txt2img"


class Img2ImgJob(Img2ImgRequest):
    """An img2img request as a job."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "mode": "img2img",
                    "init_images": ["iVBORw0KGgo..."],
                    "prompt": "the same house in winter",
                    "steps": 20,
                }
            ]
        }
    )

    mode: Literal["img2img"]


GenerationBody = Txt2ImgRequest | Img2ImgRequest


class TextToImageResponse(BaseModel):
    """Reply of txt2img."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "images": ["iVBORw0KGgo..."],
                    "parameters": {"prompt": "a lighthouse at dusk, oil painting", "steps": 20},
                    "info": '{"prompt": "a lighthouse at dusk, oil painting", "seed": 1, "all_seeds": [1]}',
                }
            ]
        }
    )

    images: list[str] = Field(description="Base64 files in the format of option samples_format.")
    parameters: dict[str, JsonValue] = Field(description="The request with defaults and infotext applied.")
    info: str = Field(description="A JSON document as text: seeds, prompts, infotexts and the rest.")


class ImageToImageResponse(TextToImageResponse):
    """Reply of img2img."""
