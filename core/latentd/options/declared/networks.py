"""Options of extra networks."""

from __future__ import annotations

from functools import partial

from latentd.contributions import OptionSpec
from latentd.options.declared.declare import declare

_option = partial(declare, section="extra_networks", affects="ui")
EXTRA_NETWORKS: tuple[OptionSpec, ...] = (
    _option("extra_networks_show_hidden_directories", True, "web page: extra networks show hidden directories"),
    _option("extra_networks_dir_button_function", False, "web page: extra networks dir button function"),
    _option("extra_networks_hidden_models", "When searched", "web page: extra networks hidden models"),
    _option(
        "extra_networks_default_multiplier",
        1.0,
        "strength of sd_lora and sd_hypernetwork",
        minimum=0,
        maximum=2,
        affects="generation",
    ),
    _option("extra_networks_card_width", 0, "web page: extra networks card width"),
    _option("extra_networks_card_height", 0, "web page: extra networks card height"),
    _option("extra_networks_card_text_scale", 1.0, "web page: extra networks card text scale"),
    _option("extra_networks_card_show_desc", True, "web page: extra networks card show desc"),
    _option("extra_networks_card_description_is_html", False, "web page: extra networks card description is html"),
    _option("extra_networks_card_order_field", "Path", "web page: extra networks card order field"),
    _option("extra_networks_card_order", "Ascending", "web page: extra networks card order"),
    _option("extra_networks_tree_view_default_enabled", False, "web page: extra networks tree view default enabled"),
    _option("extra_networks_tree_view_default_width", 180, "web page: extra networks tree view default width"),
    _option("extra_networks_add_text_separator", " ", "web page: extra networks add text separator"),
    _option("ui_extra_networks_tab_reorder", "", "web page: extra networks tab reorder"),
    _option("textual_inversion_print_at_load", False, "print the embeddings when they are loaded", affects="runtime"),
    _option("textual_inversion_add_hashes_to_infotext", True, "put TI hashes into the infotext", affects="saving"),
    _option("sd_hypernetwork", "None", "hypernetwork to add always", affects="generation"),
)

_option = partial(declare, section="extra_networks", affects="ui")
EXTRA_NETWORKS_LORA: tuple[OptionSpec, ...] = (
    _option("sd_lora", "None", "LoRA to add always", affects="generation"),
    _option(
        "lora_preferred_name",
        "Alias from file",
        "name of a LoRA in prompts and infotexts",
        choices=("Alias from file", "Filename"),
    ),
    _option("lora_add_hashes_to_infotext", True, "put Lora hashes into the infotext", affects="saving"),
    _option("lora_show_all", False, "web page: show LoRAs of every model version"),
    _option("lora_hide_unknown_for_versions", [], "web page: models for which unknown LoRAs are hidden"),
    _option("lora_in_memory_limit", 0, "LoRA files to cache", affects="models"),
    _option("lora_not_found_warning_console", False, "warn of a LoRA that is not found", affects="runtime"),
    _option(
        "lora_not_found_gradio_warning", False, "warn on the web page of a LoRA that is not found", affects="runtime"
    ),
    _option(
        "lora_as_automatic1111",
        True,
        "pass over what AUTOMATIC1111 1.8 passes over: a change of OpenCLIP's attention without all of q, k, v and out,"
        " and SDXL's up_blocks_0_upsamplers_0_conv; and reshape a change that has other outputs than its layer",
        affects="generation",
    ),
    _option("lora_functional", False, "apply LoRAs in every call instead of merging them", affects="generation"),
)
