"""The original's options that act, under their names, and one of latentd's own."""

from __future__ import annotations

from latentd.api import OptionSpec

SECTION = "ADetailer"
SORTED = ("None", "Position (left to right)", "Position (center to edge)", "Area (large to small)")
MATCHED = ("Off", "Strict (SDXL only)", "Free")
SCRIPTS = "dynamic_prompting,dynamic_thresholding,lora_block_weight,negpip,wildcard_recursive,wildcards"


def _option(key: str, default: object, help: str, **more: object) -> OptionSpec:
    return OptionSpec(key=key, default=default, help=help, section=SECTION, **more)  # type: ignore[arg-type]


OPTIONS: list[OptionSpec] = [
    _option("ad_max_models", 4, "Units that /script-info shows; requests may have more.", minimum=1, maximum=15),
    _option(
        "ad_extra_models_dir", "", "Further folders with detectors, with | between them; only in config.json",
        api_writable=False,
    ),
    _option("ad_save_previews", False, "Save a picture of what each unit has found."),
    _option("ad_save_images_before", False, "Save pictures as they are before ADetailer."),
    _option(
        "ad_only_selected_scripts", True, "Apply only the always-on scripts of ad_script_names to repainted regions."
    ),
    _option("ad_script_names", SCRIPTS, "Always-on scripts for repainted regions, with commas between them."),
    _option("ad_bbox_sortby", "None", "Order in which regions are repainted; None: the detector's.", choices=SORTED),
    _option("ad_same_seed_for_each_tab", False, "Repaint every region of a picture with the picture's own seed."),
    _option(
        "ad_dynamic_denoise_power", 0.0,
        "Weaker repaint of larger regions: the strength times (1 - share of the picture) to this power.",
        minimum=-10, maximum=10,
    ),
    _option(
        "ad_match_inpaint_bbox_size", "Off", "Repaint each region at a size of its own aspect ratio.", choices=MATCHED
    ),
    _option(
        "ad_builtin_face_fallback", False,
        "Serve face_yolov*.pt and mediapipe_face_* by the built-in face_mtcnn where the file is missing.",
    ),
]  # fmt: skip
