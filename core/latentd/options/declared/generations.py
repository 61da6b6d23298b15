"""Options of other releases of AUTOMATIC1111: those dropped before 1.8, and those that 1.9 and 1.10 added."""

from __future__ import annotations

from functools import partial

from latentd.contributions import OptionSpec
from latentd.options.declared.declare import declare

_option = partial(declare, section="compatibility")
EARLY: tuple[OptionSpec, ...] = (
    _option("do_not_add_watermark", False, "kept for old clients; no watermark is ever added", affects="ui"),
    _option("sd_vae_as_default", False, "the opposite of sd_vae_overrides_per_model_preferences"),
    _option("enable_emphasis", True, 'false is emphasis "None"'),
    _option("extra_networks_default_view", "cards", "web page: view of extra networks", affects="ui"),
    _option("quicksettings", "sd_model_checkpoint", "web page: options on top, separated by commas", affects="ui"),
    _option(
        "ui_reorder",
        "inpaint, sampler, checkboxes, hires_fix, dimensions, cfg, seed, batch, override_settings, scripts",
        "web page: order of the items, separated by commas",
        affects="ui",
    ),
    _option("lora_apply_to_outputs", False, "feed LoRAs the output of a layer whose output has the input's shape"),
)

_option = partial(declare, section="sampler-params")
LATER: tuple[OptionSpec, ...] = (
    _option(
        "s_min_uncond_all",
        False,
        "leave the negative prompt out of every step below s_min_uncond, not of every second one",
        infotext="NGMS all steps",
    ),
    _option(
        "skip_early_cond",
        0.0,
        "first share of the steps without guidance",
        minimum=0,
        maximum=1,
        infotext="Skip Early CFG",
    ),
    _option(
        "beta_dist_alpha", 0.6, "alpha of the Beta schedule", minimum=0.01, maximum=1, infotext="Beta schedule alpha"
    ),
    _option("beta_dist_beta", 0.6, "beta of the Beta schedule", minimum=0.01, maximum=1, infotext="Beta schedule beta"),
    _option("sdxl_clip_l_skip", False, "clip skip for SDXL's first text encoder", section="sdxl"),
    _option("sd3_enable_t5", False, "T5 text encoder of SD3, which is not offered", section="sd"),
    _option("save_write_log_csv", True, "web page: log of the Save button", section="saving-images", affects="ui"),
    _option("set_scale_by_when_changing_upscaler", False, "web page: scale follows the upscaler", affects="ui"),
    _option("prevent_screen_sleep_during_generation", True, "web page: keep the screen awake", affects="ui"),
    _option("enable_reloading_ui_scripts", False, "web page: reload scripts", affects="ui"),
    _option("extra_networks_tree_view_style", "Dirs", "web page: tree of extra networks", affects="ui"),
    _option("postprocessing_disable_in_extras", [], "extras steps that are left out", affects="extras"),
    _option("profiling_enable", False, "profile the web page's jobs", affects="ui"),
    _option("profiling_activities", ["CPU"], "what the profile holds", affects="ui"),
    _option("profiling_record_shapes", True, "shapes in the profile", affects="ui"),
    _option("profiling_profile_memory", True, "memory in the profile", affects="ui"),
    _option("profiling_with_stack", True, "stacks in the profile", affects="ui"),
    _option("profiling_filename", "trace.json", "file of the profile", affects="ui"),
)
