"""Options of saved pictures, folders, upscaling and face restoration."""

from __future__ import annotations

from functools import partial

from latentd.contributions import OptionSpec
from latentd.options.declared.declare import declare

_option = partial(declare, section="saving-images", affects="saving")
SAVING_IMAGES: tuple[OptionSpec, ...] = (
    _option("samples_save", True, "write pictures when the request asks for it (save_images)"),
    _option("samples_format", "png", "format of saved pictures and of every picture in replies: png, jpg, jpeg, webp"),
    _option(
        "samples_filename_pattern",
        "",
        "file-name pattern; empty: [seed] when save_to_dirs, else [seed]-[prompt_spaces]",
    ),
    _option("save_images_add_number", True, "prefix a 5-digit running number"),
    _option("save_images_replace_action", "Replace", "when the file exists", choices=("Replace", "Add number suffix")),
    _option("grid_save", True, "write grids"),
    _option("grid_format", "png", "format of saved grids"),
    _option("grid_extended_filename", False, "grid file name also gets the samples pattern"),
    _option("grid_only_if_multiple", True, "no grid of a single picture"),
    _option("grid_prevent_empty_spots", False, "choose the rows so that no place stays empty"),
    _option("grid_zip_filename_pattern", "", "web page: grid zip filename pattern", affects="ui"),
    _option("n_rows", -1, "rows of a grid: -1 by itself, 0 the batch size", minimum=-1, maximum=16),
    _option("font", "", "font file for grids with text"),
    _option("grid_text_active_color", "#000000", "annotation colour"),
    _option("grid_text_inactive_color", "#999999", "struck-out annotation colour"),
    _option("grid_background_color", "#ffffff", "annotation background (1.9+: also grid background)"),
    _option("save_images_before_face_restoration", False, "also save the picture before face restoration"),
    _option("save_images_before_highres_fix", False, "also save the picture before hires fix"),
    _option("save_images_before_color_correction", False, "also save the picture before colour correction"),
    _option("save_mask", False, "save the mask"),
    _option("save_mask_composite", False, "save the masked picture"),
    _option("jpeg_quality", 80, "quality of JPEG and WebP, in replies too", minimum=1, maximum=100),
    _option("webp_lossless", False, "lossless WebP for saved pictures"),
    _option("export_for_4chan", True, "write a .jpg copy of large pictures"),
    _option("img_downscale_threshold", 4.0, "size in MiB beyond which a .jpg copy is written too"),
    _option("target_side_length", 4000, "side in pixels beyond which a .jpg copy is written too"),
    _option(
        "img_max_size_mp", 200, "megapixels from which a grid of the X/Y/Z script is refused", affects="generation"
    ),
    _option("use_original_name_batch", True, "extras files keep the source name"),
    _option("use_upscaler_name_as_suffix", False, "read by nothing"),
    _option("save_selected_only", True, "web page: save selected only", affects="ui"),
    _option("save_init_img", False, "save init images under the md5 of their pixels"),
    _option("temp_dir", "", "web page: temp dir", affects="ui"),
    _option("clean_temp_dir_at_start", False, "web page: clean temp dir at start", affects="ui"),
    _option("save_incomplete_images", False, "also save when interrupted/skipped"),
    _option("notification_audio", True, "web page: notification audio", affects="ui"),
    _option("notification_volume", 100, "web page: notification volume", affects="ui"),
)

_option = partial(declare, section="saving-paths", affects="saving")
SAVING_PATHS: tuple[OptionSpec, ...] = (
    _option("outdir_samples", "", "one folder for all pictures; the web page only"),
    _option("outdir_txt2img_samples", "output/txt2img-images", "folder of txt2img pictures"),
    _option("outdir_img2img_samples", "output/img2img-images", "folder of img2img pictures"),
    _option(
        "outdir_extras_samples",
        "output/extras-images",
        "folder of pictures from the extras endpoints (which never save over the API)",
    ),
    _option("outdir_grids", "", "one folder for all grids; the web page only"),
    _option("outdir_txt2img_grids", "output/txt2img-grids", "folder of txt2img grids"),
    _option("outdir_img2img_grids", "output/img2img-grids", "folder of img2img grids"),
    _option("outdir_save", "log/images", "web page: folder of the Save button", affects="ui"),
    _option("outdir_init_images", "output/init-images", "folder of saved init images"),
)

_option = partial(declare, section="saving-to-dirs", affects="saving")
SAVING_TO_DIRS: tuple[OptionSpec, ...] = (
    _option("save_to_dirs", True, "save into folders named by directories_filename_pattern"),
    _option("grid_save_to_dirs", True, "the same for grids"),
    _option("use_save_to_dirs_for_ui", False, "web page: use save to dirs for ui", affects="ui"),
    _option(
        "directories_filename_pattern", "[date]", "pattern of the folder below the output folder; empty: [prompt_words]"
    ),
    _option("directories_max_prompt_words", 8, "most words of [prompt_words]", minimum=1, maximum=20),
)

_option = partial(declare, section="upscaling", affects="extras")
UPSCALING: tuple[OptionSpec, ...] = (
    _option("ESRGAN_tile", 192, "tile size for ESRGAN and R-ESRGAN; 0 for none", minimum=0, maximum=512),
    _option("ESRGAN_tile_overlap", 8, "overlap of ESRGAN tiles in pixels", minimum=0, maximum=48),
    _option(
        "realesrgan_enabled_models",
        ["R-ESRGAN 4x+", "R-ESRGAN 4x+ Anime6B"],
        "R-ESRGAN models that appear as upscalers (needs a restart)",
    ),
    _option(
        "dat_enabled_models", ["DAT x2", "DAT x3", "DAT x4"], "DAT models that appear as upscalers (needs a restart)"
    ),
    _option("DAT_tile", 192, "tile size for DAT; 0 for none", minimum=0, maximum=512),
    _option("DAT_tile_overlap", 8, "overlap of DAT tiles in pixels", minimum=0, maximum=48),
    _option(
        "upscaler_for_img2img",
        None,
        "upscaler that enlarges init images; null is Lanczos",
        nullable=True,
        affects="generation",
    ),
)

_option = partial(declare, section="face-restoration", affects="generation")
FACE_RESTORATION: tuple[OptionSpec, ...] = (
    _option("face_restoration", False, "restore faces where the request says nothing", infotext="Face restoration"),
    _option("face_restoration_model", "CodeFormer", "face restorer that restore_faces uses"),
    _option("code_former_weight", 0.5, "CodeFormer's fidelity: 0 is the strongest effect", minimum=0, maximum=1),
    _option("face_restoration_unload", False, "drop the face restorer after use", affects="runtime"),
)
