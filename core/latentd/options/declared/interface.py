"""Options of the web page, kept for clients that read them; without effect on pictures unless their help says so."""

from __future__ import annotations

from functools import partial

from latentd.contributions import OptionSpec
from latentd.options.declared.declare import declare

_option = partial(declare, section="ui_prompt_editing", affects="ui")
UI_PROMPT_EDITING: tuple[OptionSpec, ...] = (
    _option("keyedit_precision_attention", 0.1, "web page: keyedit precision attention"),
    _option("keyedit_precision_extra", 0.05, "web page: keyedit precision extra"),
    _option("keyedit_delimiters", ".,\\/!?%^*;:{}=`~() ", "web page: keyedit delimiters"),
    _option(
        "keyedit_delimiters_whitespace",
        ["Tab", "Carriage Return", "Line Feed"],
        "web page: keyedit delimiters whitespace",
    ),
    _option("keyedit_move", True, "web page: keyedit move"),
    _option("disable_token_counters", False, "web page: disable token counters"),
    _option("include_styles_into_token_counters", True, "web page: include styles into token counters"),
)

_option = partial(declare, section="ui_gallery", affects="ui")
UI_GALLERY: tuple[OptionSpec, ...] = (
    _option("return_grid", True, "put the grid into the reply when one is made", affects="generation"),
    _option("do_not_show_images", False, "web page: do not show images"),
    _option("js_modal_lightbox", True, "web page: modal lightbox"),
    _option("js_modal_lightbox_initially_zoomed", True, "web page: modal lightbox initially zoomed"),
    _option("js_modal_lightbox_gamepad", False, "web page: modal lightbox gamepad"),
    _option("js_modal_lightbox_gamepad_repeat", 250, "web page: modal lightbox gamepad repeat"),
    _option("sd_webui_modal_lightbox_icon_opacity", 1.0, "web page: sd webmodal lightbox icon opacity"),
    _option("sd_webui_modal_lightbox_toolbar_opacity", 0.9, "web page: sd webmodal lightbox toolbar opacity"),
    _option("gallery_height", "", "web page: gallery height"),
    _option("open_dir_button_choice", "Subdirectory", "web page: open dir button choice"),
)

_option = partial(declare, section="ui_alternatives", affects="ui")
UI_ALTERNATIVES: tuple[OptionSpec, ...] = (
    _option("compact_prompt_box", False, "web page: compact prompt box"),
    _option("samplers_in_dropdown", True, "web page: samplers in dropdown"),
    _option("dimensions_and_batch_together", True, "web page: dimensions and batch together"),
    _option("sd_checkpoint_dropdown_use_short", False, "web page: sd checkpoint dropdown use short"),
    _option("hires_fix_show_sampler", False, "web page: hires fix show sampler"),
    _option("hires_fix_show_prompts", False, "web page: hires fix show prompts"),
    _option("txt2img_settings_accordion", False, "web page: txt2img settings accordion"),
    _option("img2img_settings_accordion", False, "web page: img2img settings accordion"),
    _option("interrupt_after_current", True, "web page: interrupt after current"),
)

_option = partial(declare, section="ui", affects="ui")
UI: tuple[OptionSpec, ...] = (
    _option("localization", "None", "web page: localization"),
    _option("quicksettings_list", ["sd_model_checkpoint"], "web page: quicksettings list"),
    _option("ui_tab_order", [], "web page: tab order"),
    _option("hidden_tabs", [], "web page: hidden tabs"),
    _option("ui_reorder_list", [], "web page: reorder list"),
    _option("gradio_theme", "Default", "web page: gradio theme"),
    _option("gradio_themes_cache", True, "web page: gradio themes cache"),
    _option("show_progress_in_title", True, "web page: show progress in title"),
    _option("send_seed", True, "web page: send seed"),
    _option("send_size", True, "web page: send size"),
)

_option = partial(declare, section="canvas_hotkey", affects="ui")
CANVAS_HOTKEY: tuple[OptionSpec, ...] = (
    _option("canvas_hotkey_zoom", "Alt", "web page: canvas hotkey zoom"),
    _option("canvas_hotkey_adjust", "Ctrl", "web page: canvas hotkey adjust"),
    _option("canvas_hotkey_shrink_brush", "Q", "web page: canvas hotkey shrink brush"),
    _option("canvas_hotkey_grow_brush", "W", "web page: canvas hotkey grow brush"),
    _option("canvas_hotkey_move", "F", "web page: canvas hotkey move"),
    _option("canvas_hotkey_fullscreen", "S", "web page: canvas hotkey fullscreen"),
    _option("canvas_hotkey_reset", "R", "web page: canvas hotkey reset"),
    _option("canvas_hotkey_overlap", "O", "web page: canvas hotkey overlap"),
    _option("canvas_show_tooltip", True, "web page: canvas show tooltip"),
    _option("canvas_auto_expand", True, "web page: canvas auto expand"),
    _option("canvas_blur_prompt", False, "web page: canvas blur prompt"),
    _option("canvas_disabled_functions", ["Overlap"], "web page: canvas disabled functions"),
)

_option = partial(declare, section="settings_in_ui", affects="ui")
SETTINGS_IN_UI: tuple[OptionSpec, ...] = (
    _option(
        "settings_in_ui",
        "Options named here appear beside the generation parameters of a web page.",
        "a note for web pages",
        api_writable=False,
    ),
    _option("extra_options_txt2img", [], "web page: extra options txt2img"),
    _option("extra_options_img2img", [], "web page: extra options img2img"),
    _option("extra_options_cols", 1, "web page: extra options cols"),
    _option("extra_options_accordion", False, "web page: extra options accordion"),
)

_option = partial(declare, section="", affects="ui")
HIDDEN: tuple[OptionSpec, ...] = (
    _option("disabled_extensions", [], "web page: disabled extensions"),
    _option("disable_all_extensions", "none", "web page: disable all extensions"),
    _option("restore_config_state_file", "", "web page: restore config state file"),
    _option(
        "sd_checkpoint_hash",
        "",
        "sha256 of the loaded checkpoint; written by the server",
        affects="models",
        api_writable=False,
    ),
)
