"""Options of the server, training and interrogation."""

from __future__ import annotations

from functools import partial

from latentd.contributions import OptionSpec
from latentd.options.declared.declare import declare

_option = partial(declare, section="system", affects="runtime")
SYSTEM: tuple[OptionSpec, ...] = (
    _option("auto_launch_browser", "Local", "web page: auto launch browser", affects="ui"),
    _option("enable_console_prompts", False, "web page: enable console prompts", affects="ui"),
    _option("show_warnings", False, "web page: show warnings", affects="ui"),
    _option("show_gradio_deprecation_warnings", True, "web page: show gradio deprecation warnings", affects="ui"),
    _option("memmon_poll_rate", 8, "polls of the device memory per second", minimum=0, maximum=40),
    _option("samples_log_stdout", False, "print every generation to the console"),
    _option("multiple_tqdm", True, "a second progress bar on the console"),
    _option("enable_upscale_progressbar", True, "a progress bar for upscaling on the console"),
    _option("print_hypernet_extra", False, "print more about hypernetworks"),
    _option("list_hidden_files", True, "look into folders whose name begins with a dot", affects="models"),
    _option("disable_mmap_load_safetensors", False, "read .safetensors files instead of mapping them"),
    _option("hide_ldm_prints", True, "hide the model library's prints"),
    _option("dump_stacks_on_signal", False, "dump the stacks of all threads on a signal"),
)

_option = partial(declare, section="API", affects="api")
API: tuple[OptionSpec, ...] = (
    _option("api_enable_requests", True, "allow pictures by URL (with --allow-image-urls)", api_writable=False),
    _option("api_forbid_local_requests", True, "refuse URLs of private addresses", api_writable=False),
    _option("api_useragent", "", "User-Agent for fetching pictures", api_writable=False),
)

_option = partial(declare, section="training", affects="training")
TRAINING: tuple[OptionSpec, ...] = (
    _option("unload_models_when_training", False, "move VAE and text encoder off the device while training"),
    _option("pin_memory", False, "pin the memory of the training data; without effect: latents are small"),
    _option("save_optimizer_state", False, "save the optimiser's state beside what is trained"),
    _option("save_training_settings_to_txt", True, "write the settings of a training to a text file"),
    _option("dataset_filename_word_regex", "", "regular expression for words in the names of training pictures"),
    _option("dataset_filename_join_string", " ", "text that joins the words of training file names"),
    _option("training_image_repeats_per_epoch", 1, "repeats of a picture in an epoch", minimum=1),
    _option("training_write_csv_every", 500, "steps between lines of the loss file; 0 for none", minimum=0),
    _option(
        "training_xattention_optimizations",
        False,
        "optimised attention in training; without effect: it always is",
    ),
    _option("training_enable_tensorboard", False, "log training to TensorBoard"),
    _option("training_tensorboard_save_images", False, "put pictures into the TensorBoard log"),
    _option("training_tensorboard_flush_every", 120, "seconds between flushes of the TensorBoard log", minimum=1),
)

_option = partial(declare, section="interrogate", affects="interrogation")
INTERROGATE: tuple[OptionSpec, ...] = (
    _option("interrogate_keep_models_in_memory", False, "keep interrogation models loaded", affects="runtime"),
    _option("interrogate_return_ranks", False, "put the scores into the answer"),
    _option("interrogate_clip_num_beams", 1, "beams of the caption model", minimum=1, maximum=16),
    _option("interrogate_clip_min_length", 24, "least length of a caption", minimum=1, maximum=128),
    _option("interrogate_clip_max_length", 48, "greatest length of a caption", minimum=1, maximum=256),
    _option("interrogate_clip_dict_limit", 1500, "lines of a category file to use; 0 for all"),
    _option("interrogate_clip_skip_categories", [], "category files to leave out"),
    _option("interrogate_deepbooru_score_threshold", 0.5, "score from which a tag is given", minimum=0, maximum=1),
    _option("deepbooru_sort_alpha", True, "sort tags by name, not by score"),
    _option("deepbooru_use_spaces", True, "spaces in tags instead of underscores"),
    _option("deepbooru_escape", True, "put a backslash before brackets in tags"),
    _option("deepbooru_filter_tags", "", "tags to leave out, separated by commas"),
)
