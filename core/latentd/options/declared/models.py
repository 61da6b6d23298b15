"""Options of the model, its VAE, and its evaluation."""

from __future__ import annotations

from functools import partial

from latentd.contributions import OptionSpec
from latentd.options.declared.declare import declare

_option = partial(declare, section="sd", affects="generation")
SD: tuple[OptionSpec, ...] = (
    _option("sd_model_checkpoint", None, "title of the selected checkpoint", nullable=True, infotext="Model hash"),
    _option("sd_checkpoints_limit", 1, "models kept loaded", minimum=1, maximum=10, affects="models"),
    _option("sd_checkpoints_keep_in_cpu", True, "keep models that are not at work in memory", affects="models"),
    _option("sd_checkpoint_cache", 0, "checkpoint files to cache", minimum=0, maximum=10, affects="models"),
    _option("sd_unet", "Automatic", "Automatic, None or a UNet from a plugin", affects="models"),
    _option("enable_quantization", False, "round the timestep of a noise level to a whole one"),
    _option(
        "emphasis",
        "Original",
        "how prompt emphasis acts",
        choices=("None", "Ignore", "Original", "No norm"),
        infotext="Emphasis",
    ),
    _option("enable_batch_seeds", True, "without effect: noise is always made per image"),
    _option(
        "comma_padding_backtrack",
        20,
        "tokens within which text after a comma moves to the next chunk; 0 for none",
        minimum=0,
        maximum=74,
    ),
    _option(
        "CLIP_stop_at_last_layers",
        1,
        "clip skip: 1 uses the last layer of the text encoder",
        minimum=1,
        maximum=12,
        infotext="Clip skip",
    ),
    _option("upcast_attn", False, "attention in 32-bit floats"),
    _option(
        "randn_source",
        "GPU",
        "where noise comes from: GPU, CPU or NV (the Philox stream of an NVIDIA device on any device)",
        choices=("GPU", "CPU", "NV"),
        infotext="RNG",
    ),
    _option("tiling", False, "pictures that tile, where the request says nothing", infotext="Tiling"),
    _option(
        "hires_fix_refiner_pass",
        "second pass",
        "pass of hires fix that may use the refiner",
        choices=("first pass", "second pass", "both passes"),
        infotext="Hires refiner",
    ),
)

_option = partial(declare, section="sdxl", affects="generation")
SDXL: tuple[OptionSpec, ...] = (
    _option("sdxl_crop_top", 0, "SDXL crop conditioning, top"),
    _option("sdxl_crop_left", 0, "SDXL crop conditioning, left"),
    _option("sdxl_refiner_low_aesthetic_score", 2.5, "refiner's score for the negative prompt"),
    _option("sdxl_refiner_high_aesthetic_score", 6.0, "refiner's score for the prompt"),
)

_option = partial(declare, section="vae", affects="generation")
VAE: tuple[OptionSpec, ...] = (
    _option(
        "sd_vae_explanation",
        "The VAE turns pictures into the latents that a model works on, and latents into pictures.",
        "a note for web pages",
        affects="ui",
        api_writable=False,
    ),
    _option("sd_vae_checkpoint_cache", 0, "VAE files to cache", minimum=0, maximum=10, affects="models"),
    _option("sd_vae", "Automatic", "VAE: Automatic, None or a file name", infotext="VAE"),
    _option(
        "sd_vae_overrides_per_model_preferences",
        True,
        "an sd_vae that was named beats a checkpoint's own VAE; the opposite of sd_vae_as_default",
    ),
    _option("auto_vae_precision_bfloat16", False, "decode again in bf16 when a decode gives no numbers"),
    _option("auto_vae_precision", True, "decode again in fp32 when a decode gives no numbers"),
    _option(
        "sd_vae_encode_method", "Full", "how pictures become latents", choices=("Full", "TAESD"), infotext="VAE Encoder"
    ),
    _option(
        "sd_vae_decode_method", "Full", "how latents become pictures", choices=("Full", "TAESD"), infotext="VAE Decoder"
    ),
)

_option = partial(declare, section="optimizations", affects="generation")
OPTIMIZATIONS: tuple[OptionSpec, ...] = (
    _option("cross_attention_optimization", "Automatic", "attention kernel; numerics only", affects="runtime"),
    _option(
        "s_min_uncond",
        0.0,
        "noise level below which the negative prompt is left out of every second step; 0 never",
        minimum=0,
        maximum=15,
    ),
    _option(
        "token_merging_ratio", 0.0, "share of tokens to merge", minimum=0, maximum=0.9, infotext="Token merging ratio"
    ),
    _option("token_merging_ratio_img2img", 0.0, "the same in img2img; 0 for the value above", minimum=0, maximum=0.9),
    _option(
        "token_merging_ratio_hr",
        0.0,
        "the same in the hires pass; 0 for the value above",
        minimum=0,
        maximum=0.9,
        infotext="Token merging ratio hr",
    ),
    _option(
        "step_cache_threshold",
        0.0,
        "reuse the UNet's deep features while its shallow ones change by less than this share; 0 never, 0.1 is mild",
        minimum=0,
        maximum=1,
        infotext="Step cache",
    ),
    _option("pad_cond_uncond", False, "pad the shorter of both prompts with empty chunks", infotext="Pad conds"),
    _option("pad_cond_uncond_v0", False, "padding as before 1.6; wins over pad_cond_uncond", infotext="Pad conds v0"),
    _option("persistent_cond_cache", True, "keep the conditioning of prompts between jobs", affects="runtime"),
    _option("batch_cond_uncond", True, "one UNet call for both prompts; numerics only", affects="runtime"),
    _option("fp8_storage", "Disable", "keep weights in fp8", choices=("Disable", "Enable for SDXL", "Enable")),
    _option("cache_fp16_weight", False, "with fp8: apply networks to kept fp16 weights"),
)

_option = partial(declare, section="compatibility", affects="generation")
COMPATIBILITY: tuple[OptionSpec, ...] = (
    _option("auto_backcompat", True, "let an infotext's Version switch old behaviours on"),
    _option("use_old_emphasis_implementation", False, "prompt parser from before 75-token chunks; SD1 only"),
    _option("use_old_karras_scheduler_sigmas", False, "Karras schedule from 0.1 to 10"),
    _option("no_dpmpp_sde_batch_determinism", False, "Brownian noise from random entropy"),
    _option("use_old_hires_fix_width_height", False, "width and height are the final size of hires fix"),
    _option("dont_fix_second_order_samplers_schedule", False, "read by nothing"),
    _option(
        "hires_fix_use_firstpass_conds", False, "prompt of the hires pass computed with the networks of the first pass"
    ),
    _option("use_old_scheduling", False, "old numbers in prompt editing", infotext="Old prompt editing timelines"),
    _option(
        "use_downcasted_alpha_bar",
        False,
        "noise schedule rounded to fp16, as before 1.7",
        infotext="Downcast alphas_cumprod",
    ),
    _option(
        "refiner_switch_by_sample_steps",
        False,
        "old rule for switching to the refiner",
        infotext="Refiner switch by sampling steps",
    ),
)
