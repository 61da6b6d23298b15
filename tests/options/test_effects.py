"""Every option is read by what it affects and named by a test, or stands here with the reason why it does nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from latentd.contributions import OptionSpec
from latentd.options.declared import CORE_OPTIONS

ROOT = Path(__file__).parents[2]

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
#: Read under a name put together from parts: the place, and a piece of what it says there.
READ_BY_PARTS = {
    r"outdir_(txt2img|img2img)_samples": ("pipeline/output/saving.py", 'f"outdir_{kind}_samples"'),
    r"outdir_(txt2img|img2img)_grids": ("pipeline/output/saving.py", 'f"outdir_{kind}_grids"'),
    r"(return|save)_mask(_composite)?": ("pipeline/output/finish.py", '{kind}"'),
    r"hypertile_(max_depth|max_tile|swap_size)_vae": ("networks/hypertile.py", 'f"hypertile_{key}_{part}"'),
    r"uni_pc_\w+": ("pipeline/passes/sampling_pass.py", 'startswith("uni_pc_")'),
    r"webp_lossless|save_txt|export_for_4chan|img_downscale_threshold|target_side_length": (
        "pipeline/output/saving.py",
        "fields(SaveOptions)",
    ),
}


@cache
def _texts(*patterns: str) -> dict[Path, str]:
    paths = (path for pattern in patterns for path in ROOT.glob(pattern))
    skipped = ("declared", "recorded", Path(__file__).name)
    return {path: path.read_text() for path in paths if not any(part in skipped for part in path.parts)}


def _readers(key: str, texts: dict[Path, str]) -> list[Path]:
    quoted = re.compile(rf"""["']{re.escape(key)}["']""")
    return [path for path, text in texts.items() if quoted.search(text)]


def _acting(specs: Iterable[OptionSpec]) -> list[str]:
    return [s.key for s in specs if s.affects != "ui" and s.key not in WITHOUT_EFFECT]


@pytest.mark.parametrize("key", _acting(CORE_OPTIONS))
def test_an_option_is_read_by_what_it_affects_and_named_by_a_test(key: str) -> None:
    core = _texts("core/latentd/**/*.py")
    for pattern, (place, piece) in READ_BY_PARTS.items():
        if re.fullmatch(pattern, key):
            assert piece in (ROOT / "core" / "latentd" / place).read_text()
            break
    else:
        if not _readers(key, core):
            assert _readers(key, _texts("plugins/*/src/**/*.py")), "nothing reads it"
            return
    named = [path for path, text in _texts("tests/**/*.py").items() if key in text]
    by_parts = re.sub(r"_(txt2img|img2img)_", "_{kind}_", key)
    assert named or any(by_parts in text for text in _texts("tests/**/*.py").values()), "no test names it"


@pytest.mark.parametrize("key", WITHOUT_EFFECT)
def test_what_is_said_to_have_no_effect_is_read_by_nothing(key: str) -> None:
    assert key in {spec.key for spec in CORE_OPTIONS}
    assert _readers(key, _texts("core/latentd/**/*.py", "plugins/*/src/**/*.py")) == []
