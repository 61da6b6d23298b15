"""The script Ultimate SD upscale: its parts, and the pictures over HTTP."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import latentd_scripts
import numpy as np
import pytest
from latentd_scripts.ultimate.arguments import UltimateUpscaleArgs
from latentd_scripts.ultimate.patches import Grid, Patch, enlargements
from PIL import Image

from latentd.api import Box, expand_box, hookimpl, masked_box, prepare_mask
from latentd.testing import AppFactory

NAME = "Ultimate SD upscale"
FIELDS = list(UltimateUpscaleArgs.model_fields)
#: The arguments of an example that is widely copied, by their order.
COPIED = ["", 512, 0, 8, 32, 64, 0.275, 32, 3, False, 0, True, 8, 3, 2, 1080, 1440, 1.875]
SMALL = {"tile_width": 64, "tile_height": 64, "mask_blur": 4, "padding": 16, "target_size_type": 2, "custom_scale": 2}


def args(**fields: Any) -> UltimateUpscaleArgs:
    return UltimateUpscaleArgs(**{**SMALL, **fields})


def mask_of(patch: Patch, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(patch.mask(size, Box(0, 0, *size))).astype(int)


# --- parts -----------------------------------------------------------------------------------------------------------


def test_the_copied_example_has_every_argument() -> None:
    parsed = UltimateUpscaleArgs(**dict(zip(FIELDS, COPIED, strict=True)))
    assert (parsed.tile_width, parsed.seams_fix_denoise, parsed.seams_fix_type, parsed.custom_scale) == (
        512,
        0.275,
        3,
        1.875,
    )


@pytest.mark.parametrize("size", [(128, 128), (130, 70), (64, 64), (300, 64), (10, 10)])
def test_tiles_cover_the_picture(size: tuple[int, int]) -> None:
    for mode in (0, 1):
        covered = sum((mask_of(patch, size) > 0).astype(int) for patch in Grid(size, args(redraw_mode=mode)).tiles())
        assert covered.min() >= 1


def test_a_chess_board_has_its_white_squares_first() -> None:
    places = [(patch.left // 64, patch.top // 64) for patch in Grid((192, 128), args(redraw_mode=1)).tiles()]
    assert places == [(0, 0), (2, 0), (1, 1), (1, 0), (0, 1), (2, 1)]
    assert not Grid((192, 128), args(redraw_mode=2)).tiles()


def test_a_tiles_working_size_has_room_for_its_padding() -> None:
    grid = Grid((128, 128), args(tile_width=512, tile_height=0, padding=32))
    assert grid.tile == (512, 512)
    assert {patch.working for patch in grid.tiles()} == {(576, 576)}


@pytest.mark.parametrize(("fix", "count"), [(0, 0), (1, 3), (2, 7), (3, 9)])
@pytest.mark.parametrize("redraw", [0, 2])
def test_seams_are_as_many_as_there_are(fix: int, count: int, redraw: int) -> None:
    grid = Grid((192, 128), args(seams_fix_type=fix, redraw_mode=redraw))
    assert len(grid.seams()) == count
    assert grid.count() == count + (6 if redraw == 0 else 0)


@pytest.mark.parametrize("fix", [1, 2, 3])
def test_every_seam_is_whitest_where_two_tiles_meet(fix: int) -> None:
    size = (192, 128)
    masks = [mask_of(patch, size) for patch in Grid(size, args(seams_fix_type=fix)).seams()]
    best = np.max(masks, axis=0)
    away = np.r_[8:56, 72:120]  # from the corners of four tiles
    assert best[np.ix_(away, [63, 64, 127, 128])].min() > 180
    assert best[np.ix_([63, 64], np.r_[8:56, 72:120, 136:184])].min() > 180
    # There half tiles are blurred on both sides; intersections mend that.
    assert (best[64, [64, 128]].min() > 180) == (fix != 2)


@pytest.mark.parametrize("fields", [{}, {"mask_blur": 0}, {"padding": 0}, {"tile_width": 96}, {"mask_blur": 9}])
@pytest.mark.parametrize("size", [(192, 128), (200, 72), (50, 60)])
def test_the_region_is_the_one_that_inpainting_finds(size: tuple[int, int], fields: dict[str, Any]) -> None:
    grid = Grid(size, args(seams_fix_type=3, **fields))
    for patch in [*grid.tiles(), *grid.seams(), *Grid(size, args(seams_fix_type=1, **fields)).seams()]:
        mask = Image.new("L", size)
        mask.paste(patch.shape, (patch.left, patch.top))
        mask = prepare_mask(mask, blur_x=patch.blur, blur_y=patch.blur)
        assert np.array_equal(np.asarray(patch.mask(size, Box(0, 0, *size))), np.asarray(mask))
        found = masked_box(mask, patch.padding)
        assert found is not None
        region = patch.region(size)
        assert region == expand_box(found, *patch.working, size)
        # Within the region inpainting finds all of it again.
        cut = patch.mask(size, region)
        assert np.array_equal(np.asarray(cut), np.asarray(mask.crop(region.as_tuple())))
        again = masked_box(cut, patch.padding)
        assert again is not None
        assert expand_box(again, *patch.working, cut.size).as_tuple() == (0, 0, *cut.size)


@pytest.mark.parametrize(
    ("factor", "steps"),
    [(0, []), (1, []), (2, [2]), (3, [3]), (4, [4]), (5, [3, 2]), (7, [4, 2]), (10, [4, 3]), (16, [4, 4])],
)
def test_a_factor_is_reached_in_steps(factor: int, steps: list[int]) -> None:
    assert list(enlargements(factor)) == steps


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def upscale(draw: Callable[..., Any], picture: str) -> Callable[..., Any]:
    """``upscale(fields, **arguments)``: the reply for the picture with these arguments of the script."""

    def run(fields: dict[str, Any] | None = None, **arguments: Any) -> Any:
        body = {"init_images": [picture], "denoising_strength": 0.4, **(fields or {})}
        return draw("img2img", **body, script_name=NAME, script_args={**SMALL, **arguments})

    return run


def test_sizes_are_the_requests_or_custom_or_a_scale(upscale: Callable[..., Any]) -> None:
    assert upscale({"width": 96, "height": 72}, target_size_type=0).sizes == [(96, 72)]
    assert upscale(target_size_type=1, custom_width=80, custom_height=104).sizes == [(80, 104)]
    assert upscale(target_size_type=2, custom_scale=1.5).sizes == [(128, 128)]


def test_the_infotext_has_the_whole_size_and_the_settings(upscale: Callable[..., Any]) -> None:
    reply = upscale(upscaler_index="lanczos")
    text = reply.info["infotexts"][0]
    for part in (
        "Size: 128x128",
        "upscale upscaler: Lanczos",
        "upscale tile_width: 64",
        "upscale padding: 16",
        "Mask blur: 4",
    ):
        assert part in text
    assert (reply.info["width"], reply.info["height"], reply.info["seed"]) == (128, 128, 7)
    assert "Size" not in reply.info["extra_generation_params"]


def test_without_redrawing_the_picture_is_only_enlarged(upscale: Callable[..., Any], picture: str) -> None:
    reply = upscale(redraw_mode=2)
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        wanted = np.asarray(image.convert("RGB").resize((128, 128), Image.Resampling.LANCZOS))
    assert np.array_equal(reply.images[0], wanted)
    assert reply.info["infotexts"] == [""]


def test_one_tile_is_the_picture_redrawn_whole(
    upscale: Callable[..., Any], draw: Callable[..., Any], picture: str
) -> None:
    one = upscale(tile_width=128, tile_height=128, mask_blur=0, padding=0, upscaler_index="None")
    whole = draw("img2img", init_images=[picture], denoising_strength=0.4, width=128, height=128, resize_mode=0)
    assert np.abs(one.images[0].astype(int) - whole.images[0]).mean() < 3


def test_seams_are_redrawn_after_the_tiles(upscale: Callable[..., Any]) -> None:
    tiles = upscale()
    for fix in (1, 2, 3):
        reply = upscale(seams_fix_type=fix, seams_fix_width=16, seams_fix_padding=8)
        assert reply.sizes == [(128, 128)] * 2
        assert np.array_equal(reply.images[0], tiles.images[0])
        changed = np.abs(reply.images[1].astype(int) - reply.images[0]).max(axis=2) > 0
        assert changed[:, 60:68].any()
        if fix == 1:
            assert not changed[:56, :56].any()
    alone = upscale(redraw_mode=2, seams_fix_type=1, seams_fix_width=16)
    assert len(alone.images) == 2


def test_chess_and_rows_give_other_pictures_and_a_seed_the_same(upscale: Callable[..., Any]) -> None:
    rows, chess = upscale(redraw_mode=0), upscale(redraw_mode=1)
    assert not np.array_equal(rows.images[0], chess.images[0])
    assert np.array_equal(rows.images[0], upscale(redraw_mode=0).images[0])


def test_a_part_of_the_picture_gives_what_the_whole_one_does(upscale: Callable[..., Any]) -> None:
    """With an always-on script the whole picture is handed on, without one the region alone."""
    scripts = {"alwayson_scripts": {"Dynamic Prompts": {"args": []}}}
    for fields in ({"redraw_mode": 2, "seams_fix_type": 1}, {"seams_fix_type": 3}):
        assert np.array_equal(upscale(**fields).images[1], upscale(scripts, **fields).images[1])


def test_what_has_no_effect_is_told(upscale: Callable[..., Any], picture: str) -> None:
    reply = upscale({"mask": picture, "n_iter": 2})
    told = " ".join(reply.info["warnings"])
    assert "mask has no effect" in told
    assert "n_iter" in told


def test_pictures_are_saved_as_asked(upscale: Callable[..., Any], data: Any, tmp_path: Any) -> None:
    folder = data / "outputs" / "ultimate"
    settings = {"outdir_img2img_samples": str(folder), "save_to_dirs": False, "samples_filename_pattern": "[seed]"}
    for upscaled, seams, count in ((True, False, 1), (True, True, 2), (False, False, 0)):
        before = len(list(folder.glob("*.png")))
        upscale(
            {"save_images": True, "override_settings": settings},
            seams_fix_type=1, seams_fix_width=16, save_upscaled_image=upscaled, save_seams_fix_image=seams,
        )  # fmt: skip
        files = sorted(folder.glob("*.png"))
        assert len(files) - before == count
    with Image.open(files[0]) as saved:
        assert saved.size == (128, 128)
        assert "Ultimate SD upscale" in saved.info["parameters"]


class Watcher:
    """Looks at the progress when a part is done, and sends ``stop`` to the server after the second one."""

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.client: Any = None
        self.seen: list[tuple[int, int, tuple[int, int] | None]] = []

    @hookimpl
    def after_process(self, generation: Any, result: Any) -> None:
        progress = generation.control.progress
        size = progress.preview.size if progress.preview is not None else None
        self.seen.append((progress.job_no, progress.job_count, size))
        if len(self.seen) == 2:
            self.client.post(self.stop)


@pytest.mark.parametrize("stop", ["/sdapi/v1/interrupt", "/latentd/v1/jobs/upscaling/cancel"])
def test_it_can_be_watched_and_stopped(data: Any, picture: str, stop: str) -> None:
    factory, watcher = AppFactory(data), Watcher(stop)
    watcher.client = client = factory([latentd_scripts, watcher])
    client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "one"})
    body = {"init_images": [picture], "steps": 2, "seed": 7, "denoising_strength": 0.6, "force_task_id": "upscaling"}
    reply = client.post(
        "/sdapi/v1/img2img", json={**body, "script_name": NAME, "script_args": {**SMALL, "seams_fix_type": 2}}
    )
    factory.close()
    assert len(watcher.seen) == 2
    assert [(done, count) for done, count, _ in watcher.seen] == [(1, 8), (2, 8)]
    assert watcher.seen[1][2] == (128, 128), "after a part, the whole picture is the preview"
    if stop.endswith("interrupt"):
        images = [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in reply.json()["images"]]
        enlarged = Image.open(io.BytesIO(base64.b64decode(picture))).resize((128, 128), Image.Resampling.LANCZOS)
        changed = np.abs(images[0].astype(int) - np.asarray(enlarged)).max(axis=2) > 0
        assert changed[:50].any()
        assert not changed[90:].any()
    else:
        assert reply.status_code != 200


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ({"upscaler_index": "no such"}, 404),
        ({"upscaler_index": 99}, 404),
        ({"tile_width": 0, "tile_height": 0}, 422),
        ({"tile_width": 4}, 422),
        ({"redraw_mode": 7}, 422),
        ({"seams_fix_type": 1, "seams_fix_width": 0}, 422),
        ({"target_size_type": 2, "custom_scale": 60}, 200),
        ({"target_size_type": 1, "custom_width": 16384, "custom_height": 16384}, 413),
        ({"target_size_type": 1, "custom_width": 2048, "custom_height": 2048, "tile_width": 8, "tile_height": 8}, 413),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    send: Callable[..., Any], picture: str, arguments: dict[str, Any], status: int
) -> None:
    if status == 200:
        arguments, status = {**arguments, "redraw_mode": 2, "custom_scale": 2}, 200
    body = {"init_images": [picture], "script_name": NAME, "script_args": {**SMALL, **arguments}}
    reply = send("img2img", **body)
    assert reply.status_code == status, reply.text


# --- seams -----------------------------------------------------------------------------------------------------------


def steps_beyond_their_neighbours(image: np.ndarray) -> np.ndarray:
    """For each pair of neighbouring rows and columns [2, n-1]: how much more they differ than those around them do."""
    found = []
    for axis in (0, 1):
        steps = np.abs(np.diff(image.astype(float), axis=axis)).mean(axis=(1 - axis, 2))
        around = [np.median(np.r_[steps[max(n - 8, 0) : n], steps[n + 1 : n + 9]]) for n in range(len(steps))]
        found.append(steps - around)
    return np.array(found)


def test_three_times_the_size_shows_no_seam(tmp_path: Path) -> None:
    """Where tiles meet, neighbours differ no more than anywhere in the picture that is redrawn whole."""
    tinymodel = pytest.importorskip("latentd_tinymodel")
    factory = AppFactory(tmp_path)
    client = factory([latentd_scripts, tinymodel])
    common = {
        "prompt": "a red apple, blue background",
        "seed": 901,
        "steps": 4,
        "cfg_scale": 6,
        "sampler_name": "Euler a",
    }

    def drawn(path: str, **fields: Any) -> np.ndarray:
        reply = client.post(f"/sdapi/v1/{path}", json={**common, **fields})
        assert reply.status_code == 200, reply.text
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(reply.json()["images"][0]))).convert("RGB"))

    side = 3 * 64
    small = Image.fromarray(drawn("txt2img", width=side, height=side)).resize((64, 64))
    large = small.resize((side, side), Image.Resampling.LANCZOS)
    redrawing = {"denoising_strength": 0.35}
    whole = drawn("img2img", **redrawing, init_images=[base64_of(large)], width=side, height=side)
    settings = {
        "tile_width": 96,
        "tile_height": 96,
        "target_size_type": 2,
        "custom_scale": 3,
        "upscaler_index": "Lanczos",
    }
    script = {**redrawing, "init_images": [base64_of(small)], "script_name": NAME}
    tiled = drawn("img2img", **script, script_args=settings)
    hard = drawn("img2img", **script, script_args={**settings, "mask_blur": 0, "padding": 0})
    factory.close()
    seams = np.r_[94:98]
    bound = steps_beyond_their_neighbours(whole).max()
    assert steps_beyond_their_neighbours(tiled)[:, seams].max() <= bound
    assert steps_beyond_their_neighbours(hard)[:, seams].max() > bound, "without blur and padding the grid is seen"


def base64_of(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
