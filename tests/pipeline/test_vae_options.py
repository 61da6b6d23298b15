"""Options of the VAE and of previews act on real generations."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.models.test_small_networks import approx_weights, taesd_weights
from tests.pipeline.conftest import Draw

from latentd.errors import LatentdError, NotConfigured
from latentd.pipeline.passes import previews
from latentd.server.services import AppServices
from latentd.types import Result

INIT = {"mode": "img2img", "init_images": (Image.linear_gradient("L").resize((64, 64)).convert("RGB"),)}
HIRES = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Lanczos"}


def pixels(result: Result, index: int = 0) -> Any:
    return np.asarray(result.images[index].image, dtype=int)


def text(result: Result, index: int = 0) -> str:
    return str(result.images[index].infotext)


@pytest.fixture
def taesd_files(data: Path) -> Any:
    folder = data / "models" / "VAE-taesd"
    folder.mkdir(exist_ok=True)
    files = [folder / "taesd_decoder.pth", folder / "taesd_encoder.pth"]
    torch.save(taesd_weights("decoder"), files[0])
    torch.save(taesd_weights("encoder"), files[1])
    yield
    for file in files:
        file.unlink()


@pytest.mark.usefixtures("taesd_files")
def test_taesd_decodes_in_the_vaes_place(draw: Draw) -> None:
    full, tiny = draw(), draw({"sd_vae_decode_method": "TAESD"})
    assert np.abs(pixels(full) - pixels(tiny)).max() > 0
    assert "VAE Decoder: TAESD" in text(tiny)
    assert "VAE Encoder" not in text(tiny)
    assert "VAE Decoder" not in text(full)


@pytest.mark.usefixtures("taesd_files")
@pytest.mark.parametrize("fields", [INIT, HIRES], ids=["img2img", "hires"])
def test_taesd_encodes_in_the_vaes_place(draw: Draw, fields: dict[str, Any]) -> None:
    full, tiny = (
        draw(denoising_strength=0.5, **fields),
        draw({"sd_vae_encode_method": "TAESD"}, denoising_strength=0.5, **fields),
    )
    assert np.abs(pixels(full) - pixels(tiny)).max() > 0
    assert "VAE Encoder: TAESD" in text(tiny)
    assert "VAE Decoder" not in text(tiny)


def test_taesd_without_its_file_is_an_error_that_names_it(draw: Draw) -> None:
    with pytest.raises(NotConfigured, match="TAESD model not found") as caught:
        draw({"sd_vae_decode_method": "TAESD"})
    assert "taesd_decoder.pth" in str(caught.value.hint)
    with pytest.raises(NotConfigured) as caught:
        draw({"sd_vae_encode_method": "TAESD"}, **INIT)
    assert "taesd_encoder.pth" in str(caught.value.hint)


def test_hypertile_tiles_the_vaes_attention_for_each_pass_size(draw: Draw, services: AppServices) -> None:
    options = {"hypertile_enable_vae": True, "hypertile_swap_size_vae": 1}
    seen: list[int] = []
    with services.models.lease("tiny-a.safetensors") as model:
        attention = model.vae.decoder.mid_block.attentions[0]
    handle = attention.to_q.register_forward_hook(lambda module, args, out: seen.append(out.shape[0]))
    size = {"width": 128, "height": 128, "steps": 1, "denoising_strength": 0.5}
    try:
        tiled = draw(options, **size, enable_hr=True, hr_scale=2.0, hr_upscaler="Lanczos")
        assert seen == [1, 4]
        assert "Hypertile VAE: True" in text(tiled)
        assert "Hypertile VAE swap size: 1" in text(tiled)
        draw(**size, enable_hr=True, hr_scale=2.0, hr_upscaler="Latent")
        assert seen[2:] == [1]
    finally:
        handle.remove()


@torch.inference_mode()
def test_a_vae_of_nan_is_tried_again_as_the_options_say(draw: Draw, services: AppServices) -> None:
    def nan_in_half(module: Any, args: Any, out: torch.Tensor) -> torch.Tensor:
        return out * float("nan") if out.dtype == torch.float16 else out

    small = {"width": 16, "height": 16, "steps": 1}  # halves are slow on a CPU
    with services.models.lease("tiny-a.safetensors") as model:
        vae = model.vae
    handle = vae.decoder.conv_in.register_forward_hook(nan_in_half)
    try:
        for options, dtype in (
            ({"auto_vae_precision_bfloat16": True}, torch.bfloat16),
            ({"auto_vae_precision": True}, torch.float32),
        ):
            vae.half()
            draw(options, **small)
            assert vae.dtype == dtype
        vae.half()
        with pytest.raises(LatentdError, match="all NaNs"):
            draw({"auto_vae_precision": False}, **small)
    finally:
        handle.remove()
        vae.float()


# --- previews --------------------------------------------------------------------------------------------------------


def previews_of(
    draw: Draw, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], **fields: Any
) -> list[Image.Image]:
    """Every preview picture of a job that shows one after each step."""
    made: list[Image.Image] = []
    make = previews.preview_picture

    def watched(*args: Any) -> Image.Image:
        made.append(make(*args))
        return made[-1]

    monkeypatch.setattr(previews, "preview_picture", watched)
    monkeypatch.setattr("latentd.engine.job.Job.preview_due", lambda job, options, **more: True)
    draw({"show_progress_every_n_steps": 1, **options}, steps=3, **fields)
    assert made
    return made


def test_previews_of_large_latents_are_smaller(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "MOST_CELLS", 2 * 8 * 8)
    shown = previews_of(draw, monkeypatch, {"show_progress_type": "Approx cheap"})
    assert shown[0].size == (8, 8)
    shown = previews_of(draw, monkeypatch, {"show_progress_type": "Approx cheap"}, width=128, height=256)
    assert shown[0].size == (8, 16)


def test_a_preview_is_left_when_the_job_is_to_stop(draw: Draw, services: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make = previews.preview_picture

    def interrupted(gen: Any, *rest: Any) -> Image.Image:
        gen.control.interrupt()
        return make(gen, *rest)

    monkeypatch.setattr(previews, "preview_picture", interrupted)
    monkeypatch.setattr("latentd.engine.job.Job.preview_due", lambda job, options, **more: True)
    shown: list[Image.Image] = []
    monkeypatch.setattr("latentd.engine.job.Job.set_preview", lambda job, image: shown.append(image))
    assert len(draw({"show_progress_type": "Full"}, steps=3).images) == 1
    assert not shown


def test_each_method_makes_its_own_previews(draw: Draw, data: Path, taesd_files: None, monkeypatch: Any) -> None:
    folder = data / "models" / "VAE-approx"
    folder.mkdir()
    torch.save(approx_weights(), folder / "model.pt")
    sizes = {"Full": 64, "TAESD": 64, "Approx NN": 16, "Approx cheap": 8}
    try:
        shown = {m: previews_of(draw, monkeypatch, {"show_progress_type": m})[0] for m in sizes}
    finally:
        (folder / "model.pt").unlink()
        folder.rmdir()
    assert {method: image.width for method, image in shown.items()} == sizes
    large = [np.asarray(image.resize((8, 8)), dtype=int) for image in shown.values()]
    assert all(np.abs(a - b).max() > 8 for i, a in enumerate(large) for b in large[:i])


@pytest.mark.parametrize(
    ("method", "file", "level"),
    [("TAESD", "taesd_decoder.pth", logging.WARNING), ("Approx NN", "model.pt", logging.INFO)],
)
def test_a_missing_network_gives_way_and_the_log_says_so_once(
    draw: Draw, monkeypatch: Any, caplog: pytest.LogCaptureFixture, method: str, file: str, level: int
) -> None:
    """Nobody has asked for the default, Approx NN, so it is no warning."""
    previews._say_missing.cache_clear()
    with caplog.at_level(logging.INFO, logger="latentd.pipeline.passes.previews"):
        shown = previews_of(draw, monkeypatch, {"show_progress_type": method})
        previews_of(draw, monkeypatch, {"show_progress_type": method})
    assert shown[0].size == (8, 8)
    assert [(file in record.message, record.levelno) for record in caplog.records] == [(True, level)]


def test_interrupted_pictures_may_be_decoded_as_previews_are(
    draw: Draw, services: AppServices, monkeypatch: Any
) -> None:
    def at_first_step(gen: Any) -> None:
        services.engine.interrupt()

    monkeypatch.setattr(services.hooks, "after_step", at_first_step)
    options = {"show_progress_type": "Approx cheap"}
    full = draw({**options, "live_preview_fast_interrupt": False}, steps=6)
    fast = draw({**options, "live_preview_fast_interrupt": True}, steps=6)
    assert full.interrupted
    assert fast.interrupted
    assert full.images[0].image.size == fast.images[0].image.size
    assert np.abs(pixels(full) - pixels(fast)).max() > 0


def test_previews_show_the_whole_batch_or_its_first(draw: Draw, monkeypatch: Any) -> None:
    made: list[Image.Image] = []
    monkeypatch.setattr("latentd.engine.job.Job.preview_due", lambda job, options, **more: True)
    monkeypatch.setattr("latentd.engine.job.Job.set_preview", lambda job, image: made.append(image))
    for grid in (True, False):
        draw({"show_progress_grid": grid, "show_progress_type": "Approx cheap"}, steps=1, batch_size=2)
    assert sorted({image.size for image in made}) == [(8, 8), (16, 8)]


def test_previews_show_the_prediction_that_the_option_names(draw: Draw, monkeypatch: Any) -> None:
    kinds = ("Combined", "Prompt", "Negative prompt")
    options = {"show_progress_type": "Approx cheap"}
    shown = [previews_of(draw, monkeypatch, {**options, "live_preview_content": kind})[-1] for kind in kinds]
    assert len({image.tobytes() for image in shown}) == 3


@pytest.mark.parametrize(("allow", "size"), [(True, 64), (False, 8)])
def test_full_previews_with_parts_of_the_model_elsewhere(
    draw: Draw, services: AppServices, monkeypatch: Any, allow: bool, size: int
) -> None:
    with services.models.lease("tiny-a.safetensors") as model:
        before, model.policy = model.policy, replace(model.policy, offload="parts")
    options = {"show_progress_type": "Full", "live_preview_allow_lowvram_full": allow}
    try:
        assert previews_of(draw, monkeypatch, options)[0].width == size
    finally:
        model.policy = before
