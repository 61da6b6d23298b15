"""The options of the ControlNet extension, under its names; those of its web page are kept for clients."""

from __future__ import annotations

from latentd.api import OptionSpec

SECTION = "ControlNet"


def _option(
    key: str, default: object, help: str, minimum: float | None = None, maximum: float | None = None
) -> OptionSpec:
    return OptionSpec(key=key, default=default, help=help, minimum=minimum, maximum=maximum, section=SECTION)


_FOR_ITS_PAGE = "Kept for clients; it steers the original's web page alone."

OPTIONS: list[OptionSpec] = [
    _option("control_net_detectedmap_dir", "detected_maps", "Folder below the samples' for saved control maps."),
    _option("control_net_models_path", "", "A further folder with control models."),
    _option("control_net_modules_path", "", "A further folder with the weights of preprocessors."),
    _option("control_net_unit_count", 3, "Units that /controlnet/settings tells of; requests may have more.", 1, 10),
    _option("control_net_model_cache_size", 2, "Control models that stay loaded.", 1, 10),
    _option("control_net_inpaint_blur_sigma", 7, "Size in pixels of the blur at the edge of inpaint_only.", 0, 64),
    _option("control_net_no_detectmap", False, "Do not append control maps to the reply."),
    _option("control_net_detectmap_autosaving", False, "Save control maps with the pictures."),
    _option("control_net_allow_script_control", False, _FOR_ITS_PAGE),
    _option("control_net_sync_field_args", True, _FOR_ITS_PAGE),
    _option("controlnet_show_batch_images_in_ui", False, _FOR_ITS_PAGE),
    _option("controlnet_increment_seed_during_batch", False, _FOR_ITS_PAGE),
    _option("controlnet_disable_openpose_edit", False, _FOR_ITS_PAGE),
    _option("controlnet_disable_photopea_edit", False, _FOR_ITS_PAGE),
    _option("controlnet_photopea_warning", True, _FOR_ITS_PAGE),
    _option("controlnet_ignore_noninpaint_mask", False, "Ignore a unit's mask unless its module is for inpainting."),
    _option("controlnet_clip_detector_on_cpu", False, "Run the CLIP image encoders on the CPU."),
    _option("controlnet_control_type_dropdown", False, _FOR_ITS_PAGE),
    _option("control_net_cfg_based_guidance", False, "Control the prompt's half of the guidance only (March 2023)."),
]
