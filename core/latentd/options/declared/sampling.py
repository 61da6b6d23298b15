"""Options of sampling, img2img, infotext and live previews."""

from __future__ import annotations

from functools import partial

from latentd.contributions import OptionSpec
from latentd.options.declared.declare import declare

_option = partial(declare, section="img2img", affects="generation")
IMG2IMG: tuple[OptionSpec, ...] = (
    _option(
        "inpainting_mask_weight",
        1.0,
        "strength of an inpainting model's mask conditioning",
        minimum=0,
        maximum=1,
        infotext="Conditional mask weight",
    ),
    _option(
        "initial_noise_multiplier",
        1.0,
        "factor of the start noise in img2img, where the request says nothing",
        minimum=0,
        maximum=1.5,
        infotext="Noise multiplier",
    ),
    _option(
        "img2img_extra_noise",
        0.0,
        "extra noise added to the noised picture in img2img and hires fix",
        minimum=0,
        maximum=1,
        infotext="Extra noise",
    ),
    _option("img2img_color_correction", False, "match the colours to the init image's"),
    _option("img2img_fix_steps", False, "run exactly the steps asked for in img2img"),
    _option("img2img_background_color", "#ffffff", "colour under transparent init images"),
    _option("img2img_editor_height", 720, "web page: img2img editor height", affects="ui"),
    _option(
        "img2img_sketch_default_brush_color", "#ffffff", "web page: img2img sketch default brush color", affects="ui"
    ),
    _option("img2img_inpaint_mask_brush_color", "#ffffff", "web page: img2img inpaint mask brush color", affects="ui"),
    _option(
        "img2img_inpaint_sketch_default_brush_color",
        "#ffffff",
        "web page: img2img inpaint sketch default brush color",
        affects="ui",
    ),
    _option("return_mask", False, "append the mask to the reply"),
    _option("return_mask_composite", False, "append the masked picture to the reply"),
    _option("img2img_batch_show_results_limit", 32, "web page: img2img batch show results limit", affects="ui"),
    _option("overlay_inpaint", True, "paste the original back outside the mask"),
)

_option = partial(declare, section="sampler-params", affects="generation")
SAMPLER_PARAMS: tuple[OptionSpec, ...] = (
    _option("hide_samplers", [], "web page: samplers to hide", affects="ui"),
    _option("eta_ddim", 0.0, "eta of DDIM where the request says nothing", minimum=0, maximum=1, infotext="Eta DDIM"),
    _option(
        "eta_ancestral",
        1.0,
        "eta of other samplers where the request says nothing",
        minimum=0,
        maximum=1,
        infotext="Eta",
    ),
    _option("ddim_discretize", "uniform", "old discretisation of DDIM; unused", choices=("uniform", "quad")),
    _option(
        "s_churn", 0.0, "sigma churn where the request says nothing", minimum=0, maximum=100, infotext="Sigma churn"
    ),
    _option("s_tmin", 0.0, "sigma tmin where the request says nothing", minimum=0, maximum=10, infotext="Sigma tmin"),
    _option(
        "s_tmax",
        0.0,
        "sigma tmax where the request says nothing; 0 is infinite",
        minimum=0,
        maximum=999,
        infotext="Sigma tmax",
    ),
    _option(
        "s_noise", 1.0, "sigma noise where the request says nothing", minimum=0, maximum=1.1, infotext="Sigma noise"
    ),
    _option(
        "k_sched_type",
        "Automatic",
        "noise schedule in place of the sampler's own",
        choices=("Automatic", "karras", "exponential", "polyexponential"),
        infotext="Schedule type",
    ),
    _option(
        "sigma_min",
        0.0,
        "lowest noise level; 0 is the model's; only with a schedule named by k_sched_type",
        infotext="Schedule min sigma",
    ),
    _option(
        "sigma_max",
        0.0,
        "highest noise level; 0 is the model's; only with a schedule named by k_sched_type",
        infotext="Schedule max sigma",
    ),
    _option("rho", 0.0, "rho of the schedule; 0 for its default", infotext="Schedule rho"),
    _option("eta_noise_seed_delta", 0, "ENSD: added to the seed of noise within sampling", infotext="ENSD"),
    _option(
        "always_discard_next_to_last_sigma",
        False,
        "leave out the last noise level but one",
        infotext="Discard penultimate sigma",
    ),
    _option(
        "sgm_noise_multiplier",
        False,
        "start noise times sqrt(1 + sigma^2) instead of sigma",
        infotext="SGM noise multiplier",
    ),
    _option(
        "uni_pc_variant", "bh1", "variant of UniPC", choices=("bh1", "bh2", "vary_coeff"), infotext="UniPC variant"
    ),
    _option(
        "uni_pc_skip_type",
        "time_uniform",
        "spacing of UniPC",
        choices=("time_uniform", "time_quadratic", "logSNR"),
        infotext="UniPC skip type",
    ),
    _option(
        "uni_pc_order", 3, "order of UniPC; below the number of steps", minimum=1, maximum=50, infotext="UniPC order"
    ),
    _option("uni_pc_lower_order_final", True, "lower order in UniPC's last steps", infotext="UniPC lower order final"),
    _option(
        "sd_noise_schedule",
        "Default",
        "the model's noise schedule or its zero-terminal-SNR form",
        choices=("Default", "Zero Terminal SNR"),
        infotext="Noise Schedule",
    ),
)

_option = partial(declare, section="infotext", affects="saving")
INFOTEXT: tuple[OptionSpec, ...] = (
    _option(
        "infotext_explanation",
        "The infotext holds the parameters of a picture; given back, it makes the same picture again.",
        "a note for web pages",
        affects="ui",
        api_writable=False,
    ),
    _option("enable_pnginfo", True, "infotext in saved and returned pictures"),
    _option("save_txt", False, "write the infotext beside each picture"),
    _option("add_model_name_to_info", True, "put Model into the infotext"),
    _option("add_model_hash_to_info", True, "put Model hash into the infotext"),
    _option("add_vae_name_to_info", True, "put VAE into the infotext"),
    _option("add_vae_hash_to_info", True, "put VAE hash into the infotext"),
    _option("add_user_name_to_info", False, "put the user's name into the infotext"),
    _option("add_version_to_infotext", True, "put Version into the infotext"),
    _option("disable_weights_auto_swap", True, "do not take the checkpoint from an infotext", affects="generation"),
    _option("infotext_skip_pasting", [], "keys dropped when an infotext is read", affects="generation"),
    _option(
        "infotext_styles",
        "Apply if any",
        "what becomes of styles when an infotext is read",
        choices=("Ignore", "Apply", "Discard", "Apply if any"),
        affects="generation",
    ),
)

_option = partial(declare, section="ui", affects="generation")
LIVE_PREVIEWS: tuple[OptionSpec, ...] = (
    _option("show_progressbar", True, "web page: show progressbar", affects="ui"),
    _option("live_previews_enable", True, "pictures of the running job in /progress"),
    _option(
        "live_previews_image_format", "png", "format of previews in /internal/progress", choices=("jpeg", "png", "webp")
    ),
    _option("show_progress_grid", True, "preview the whole batch"),
    _option(
        "show_progress_every_n_steps",
        10,
        "steps between previews; -1 for the end of the batch only",
        minimum=-1,
        maximum=32,
    ),
    _option(
        "show_progress_type",
        "Approx NN",
        "how previews are made",
        choices=("Full", "Approx NN", "Approx cheap", "TAESD"),
    ),
    _option(
        "live_preview_allow_lowvram_full", False, "full previews with --medvram and --lowvram too", affects="runtime"
    ),
    _option(
        "live_preview_content",
        "Prompt",
        "prediction that previews show",
        choices=("Combined", "Prompt", "Negative prompt"),
    ),
    _option("live_preview_refresh_period", 1000, "web page: live preview refresh period", affects="ui"),
    _option("live_preview_fast_interrupt", False, "decode an interrupted job as previews are"),
    _option("js_live_preview_in_modal_lightbox", False, "web page: live preview in modal lightbox", affects="ui"),
)

_option = partial(declare, section="postprocessing", affects="generation")
POSTPROCESSING: tuple[OptionSpec, ...] = (
    _option(
        "postprocessing_enable_in_main_ui",
        [],
        "extras steps that alwayson_scripts may run on generated pictures: Upscale, Simple Upscale, GFPGAN, CodeFormer",
    ),
    _option("postprocessing_operation_order", [], "order of the extras steps", affects="extras"),
    _option("upscaling_max_images_in_cache", 5, "upscaled pictures to cache", minimum=0, maximum=10, affects="runtime"),
    _option(
        "postprocessing_existing_caption_action",
        "Ignore",
        "web page: postprocessing existing caption action",
        affects="ui",
    ),
)
