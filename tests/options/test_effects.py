"""Options that act are read by the requests that they are about, and those said to have no effect by none.

What is read is watched while a server on tiny models answers requests of every kind.
"""

from __future__ import annotations

import base64
import io
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from latentd.api import FaceRestorerSpec, hookimpl
from latentd.contributions import OptionSpec
from latentd.options import OptionStore
from latentd.options.declared import CORE_OPTIONS
from latentd.options.snapshot import Snapshot
from latentd.testing import AppFactory, tiny_models

#: Options of no kind that says so by itself (``ui``) which have no effect, and why.
WITHOUT_EFFECT = {
    "add_user_name_to_info": "the name is that of a login to the web page",
    "cross_attention_optimization": "a choice of kernels; torch's scaled dot product picks the quickest itself",
    "ddim_discretize": "read by nothing in AUTOMATIC1111 1.8 either",
    "dont_fix_second_order_samplers_schedule": "read by nothing in AUTOMATIC1111 1.8 either",
    "dump_stacks_on_signal": "a tool for developers of the web page",
    "enable_batch_seeds": "read by nothing in AUTOMATIC1111 1.8 either: noise is always made per image",
    "enable_upscale_progressbar": "there are no progress bars on the server's console",
    "hide_ldm_prints": "there is no such library to print anything",
    "ldsr_cached": "LDSR is not offered",
    "ldsr_steps": "LDSR is not offered",
    "lora_not_found_gradio_warning": "a message on the web page",
    "lora_not_found_warning_console": "a LoRA that is not found is always told, in the log and in the answer",
    "memmon_poll_rate": "memory is measured when it is asked for",
    "multiple_tqdm": "there are no progress bars on the server's console",
    "outdir_extras_samples": "the extras endpoints never save",
    "outdir_grids": "the web page's; the API passes it over, as in AUTOMATIC1111",
    "outdir_samples": "the web page's; the API passes it over, as in AUTOMATIC1111",
    "pin_memory": "latents are small, and a step takes far longer than their way to the device",
    "print_hypernet_extra": "the log says what is loaded",
    "samples_log_stdout": "the log says what was made",
    "sd3_enable_t5": "SD3 is not offered",
    "sd_unet": "no plugin offers UNets of its own; Automatic and None are the checkpoint's",
    "SWIN_torch_compile": "compiling costs more than a server's single pictures gain",
    "textual_inversion_print_at_load": "the embeddings endpoint tells them",
    "training_xattention_optimizations": "attention is torch's fused one, in training as well",
    "upscaling_max_images_in_cache": "the same picture sent again is upscaled again",
    "use_original_name_batch": "the extras endpoints never save",
    "use_upscaler_name_as_suffix": "the extras endpoints never save",
}
#: Read where the requests below do not come, and where that is. A plugin's own tests are about its options.
READ_ELSEWHERE = {
    **dict.fromkeys(
        (
            "ESRGAN_tile", "ESRGAN_tile_overlap", "realesrgan_enabled_models", "dat_enabled_models", "DAT_tile",
            "DAT_tile_overlap", "SWIN_tile", "SWIN_tile_overlap", "SCUNET_tile", "SCUNET_tile_overlap",
        ),
        "plugin upscalers",
    ),
    **dict.fromkeys(
        (
            "interrogate_keep_models_in_memory", "interrogate_return_ranks", "interrogate_clip_num_beams",
            "interrogate_clip_min_length", "interrogate_clip_max_length", "interrogate_clip_dict_limit",
            "interrogate_clip_skip_categories", "interrogate_deepbooru_score_threshold", "deepbooru_sort_alpha",
            "deepbooru_use_spaces", "deepbooru_escape", "deepbooru_filter_tags",
        ),
        "plugin interrogators",
    ),
    **dict.fromkeys(("code_former_weight", "face_restoration_unload"), "plugin facerestore"),
    **dict.fromkeys(
        ("font", "grid_text_active_color", "grid_text_inactive_color", "grid_background_color", "img_max_size_mp"),
        "plugin scripts",
    ),
    **dict.fromkeys(
        (
            "unload_models_when_training", "save_optimizer_state", "save_training_settings_to_txt",
            "dataset_filename_word_regex", "dataset_filename_join_string", "training_image_repeats_per_epoch",
            "training_write_csv_every", "training_enable_tensorboard", "training_tensorboard_save_images",
            "training_tensorboard_flush_every",
        ),
        "plugin training",
    ),
    "sd_vae_as_default": "setting it sets sd_vae_overrides_per_model_preferences",
    "enable_emphasis": "setting it sets emphasis",
    "sd_checkpoint_hash": "what the server tells of its checkpoint",
    "sd_checkpoints_keep_in_cpu": "on a GPU",
    "live_preview_allow_lowvram_full": "with --medvram, on a GPU",
}  # fmt: skip
#: A place in the code that reads more keys than this copies or compares the options, and uses none of them.
MOST_AT_ONE_PLACE = 20
BASE = {"prompt": "a (cat:1.2), dog", "steps": 2, "width": 64, "height": 64, "sampler_name": "Euler a", "seed": 1}
REQUESTS: tuple[dict[str, Any], ...] = (
    {"override_settings": {"samples_format": "jpg", "save_to_dirs": True}, "save_images": True},
    {
        "n_iter": 2, "batch_size": 2, "save_images": True, "enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent",
        "denoising_strength": 0.5, "refiner_checkpoint": "sdxl", "refiner_switch_at": 0.5,
        "override_settings": {
            "save_images_before_highres_fix": True, "save_txt": True, "hypertile_enable_unet": True,
            "hypertile_enable_vae": True, "token_merging_ratio": 0.3, "show_progress_every_n_steps": 1,
        },
    },
    {"sampler_name": "UniPC"},
    {"sampler_name": "DDIM"},
    {"sampler_name": "DPM++ SDE Karras"},
    {"sampler_name": "DPM++ 2M", "scheduler": "beta", "override_settings": {"sd_model_checkpoint": "sdxl"}},
    {"restore_faces": True, "save_images": True, "override_settings": {"save_images_before_face_restoration": True}},
    {"prompt": "<lora:tiny:1> a cat"},
    {"override_settings": {"sd_vae": "other.safetensors"}},
    {
        "override_settings": {"postprocessing_enable_in_main_ui": ["Simple Upscale"]},
        "alwayson_scripts": {"Simple Upscale": {"args": [2, "None"]}},
    },
    {"infotext": "a dog\nSteps: 2, Seed: 3, Model: sd1"},
)  # fmt: skip


class Faces:
    """A face restorer that leaves every face as it is."""

    @hookimpl
    def register_face_restorers(self) -> list[FaceRestorerSpec]:
        return [FaceRestorerSpec(name="CodeFormer", restore=lambda image, weight, context: image)]


def png(size: tuple[int, int], box: tuple[int, int, int, int] | None = None) -> str:
    """Base64 of a grey picture, or of a mask that is white in ``box``."""
    image = Image.new("L", size, 0 if box else 128)
    if box:
        image.paste(255, box)
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def write_models(factory: AppFactory) -> None:
    models = factory.data_dir / "models"
    for family in ("sd1", "sdxl"):
        weights = tiny_models.checkpoint(family, vae_widths=tiny_models.EIGHTH)  # type: ignore[arg-type]
        tiny_models.write(models / f"Stable-diffusion/{family}.safetensors", weights)
    tiny_models.write(models / "VAE/other.safetensors", tiny_models.vae(9, widths=tiny_models.EIGHTH))
    (models / "Lora").mkdir()
    layer = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    weights = {f"{layer}.lora_down.weight": torch.ones(1, 32), f"{layer}.lora_up.weight": torch.ones(128, 1)}
    save_file({**weights, f"{layer}.alpha": torch.tensor(1.0)}, models / "Lora/tiny.safetensors")


@pytest.fixture(scope="module")
def reads(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The keys of the options that the requests read."""
    places: dict[tuple[str, int], set[str]] = defaultdict(set)
    with pytest.MonkeyPatch.context() as patch:
        for kind in (Snapshot, OptionStore):
            patch.setattr(kind, "__getitem__", watched(kind.__getitem__, places))
        factory = AppFactory(tmp_path_factory.mktemp("effects"))
        write_models(factory)
        try:
            ask_everything(factory)
        finally:
            factory.close()
    return {key for keys in places.values() if len(keys) <= MOST_AT_ONE_PLACE for key in keys}


def watched(read: Callable[[Any, str], Any], places: Mapping[tuple[str, int], set[str]]) -> Callable[[Any, str], Any]:
    """``read``, which also notes the key under the place in the code that asks for it."""

    def noting(options: Any, key: str) -> Any:
        frame = sys._getframe(1)
        if frame.f_back is not None and frame.f_code.co_name == "get":
            frame = frame.f_back
        places[frame.f_code.co_filename, frame.f_lineno].add(key)
        return read(options, key)

    return noting


def ask_everything(factory: AppFactory) -> None:
    client = factory([Faces()], ["--allow-image-urls"])
    client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "sd1", "api_forbid_local_requests": False})

    def draw(path: str, **fields: Any) -> dict[str, Any]:
        reply = client.post(f"/sdapi/v1/{path}", json={**BASE, **fields})
        assert reply.status_code == 200, reply.text
        body: dict[str, Any] = reply.json()
        return body

    for fields in REQUESTS:
        picture = draw("txt2img", **fields)["images"][0]
    changes = {"return_mask": True, "save_mask": True, "img2img_color_correction": True, "save_init_img": True}
    masked = {"mask": png((64, 64), (0, 0, 32, 64)), "inpainting_fill": 1, "override_settings": changes}
    draw("img2img", init_images=[png((64, 64))], save_images=True, **masked)
    draw("img2img", init_images=[png((64, 64))], width=128, height=128)
    assert client.post("/sdapi/v1/img2img", json={**BASE, "init_images": ["http://127.0.0.1:9/x"]}).status_code == 422
    extras = {"image": png((64, 64)), "upscaler_1": "Lanczos", "upscaling_resize": 2}
    assert client.post("/sdapi/v1/extra-single-image", json=extras).status_code == 200
    assert client.post("/sdapi/v1/png-info", json={"image": f"data:image/png;base64,{picture}"}).status_code == 200
    fields = {"steps": 150, "n_iter": 4, "force_task_id": "watched", "save_images": True}
    fields |= {"override_settings": {"show_progress_every_n_steps": 1}}
    drawing = threading.Thread(target=draw, args=("txt2img",), kwargs=fields)
    drawing.start()
    end = time.monotonic() + 60
    while not client.post("/internal/progress", json={"id_task": "watched"}).json()["live_preview"]:
        assert time.monotonic() < end
    client.post("/sdapi/v1/interrupt")
    drawing.join()


def acting(specs: Iterable[OptionSpec]) -> list[str]:
    return [s.key for s in specs if s.affects != "ui" and s.key not in WITHOUT_EFFECT]


@pytest.mark.parametrize("key", acting(CORE_OPTIONS))
def test_an_option_is_read_by_what_it_affects(key: str, reads: set[str]) -> None:
    assert (key in reads) is (key not in READ_ELSEWHERE), READ_ELSEWHERE.get(key, "nothing reads it")


@pytest.mark.parametrize("key", sorted({spec.key for spec in CORE_OPTIONS} - {*acting(CORE_OPTIONS)}))
def test_an_option_without_effect_is_read_by_nothing(key: str, reads: set[str]) -> None:
    assert key not in reads


def test_the_lists_name_options_that_there_are() -> None:
    assert {*WITHOUT_EFFECT, *READ_ELSEWHERE} <= {spec.key for spec in CORE_OPTIONS}
