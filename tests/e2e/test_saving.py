"""Every option that affects saved files, through the API with real pictures."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.e2e.calls import Drawing, difference, draw, input_text, opened
from tests.reference_server import ReferenceServer

from latentd.testing import AppFactory


def save(
    server: ReferenceServer, folder: Path, options: dict[str, Any] | None = None, /, **fields: Any
) -> tuple[list[str], Drawing]:
    """(paths of all files below ``folder``, the answer) of a request that saves there, flat unless told otherwise."""
    kind = "img2img" if "init_images" in fields else "txt2img"
    standing = {
        f"outdir_{kind}_samples": str(folder / "samples"),
        f"outdir_{kind}_grids": str(folder / "grids"),
        "outdir_init_images": str(folder / "init"),
        "save_to_dirs": False,
        "grid_save_to_dirs": False,
        "samples_filename_pattern": "[seed]",
    }
    drawing = draw(server, standing | (options or {}), **{"save_images": True, **fields})
    return files_of(folder), drawing


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_nothing_is_saved_unless_asked(live: ReferenceServer, folder: Path) -> None:
    assert save(live, folder, save_images=False)[0] == []


def test_samples_save_off(live: ReferenceServer, folder: Path) -> None:
    assert save(live, folder, {"samples_save": False})[0] == []


def test_saved_picture_is_the_answer_with_its_infotext(live: ReferenceServer, folder: Path) -> None:
    files, drawing = save(live, folder)
    assert files == ["samples/00000-7.png"]
    with Image.open(folder / files[0]) as image:
        assert difference(image, drawing.image) == 0
        assert image.info["parameters"] == drawing.infotext


def test_default_folder_is_of_the_data_dir_by_date(live: ReferenceServer) -> None:
    draw(live, save_images=True)
    found = files_of(live.data / "output" / "txt2img-images")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d/00000-7\.png", found[0])


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("[seed]-[steps]-[cfg]-[width]x[height]", r"00000-7-1-7\.0-64x64\.png"),
        ("[prompt_spaces]_[sampler]", r"00000-a red circle_Euler\.png"),
        ("[prompt_hash<6>]", r"00000-[0-9a-f]{6}\.png"),
        ("[model_name]-[model_hash]-[clip_skip]", r"00000-tiny-a-328de3e9b7-1\.png"),
        ("sub/[seed]", r"sub/00000-7\.png"),
        ("../../[seed]", r"(.*/)?[^/]*7\.png"),
    ],
)
def test_samples_filename_pattern(live: ReferenceServer, folder: Path, pattern: str, name: str) -> None:
    status, reply = live.call(
        "POST",
        "/sdapi/v1/txt2img",
        {
            **{"prompt": "a red circle", "steps": 1, "width": 64, "height": 64, "seed": 7, "save_images": True},
            "override_settings": {
                "outdir_txt2img_samples": str(folder / "samples"),
                "samples_filename_pattern": pattern,
                "save_to_dirs": False,
            },
        },
    )
    files = files_of(folder)
    if status == 422:  # a name that would leave its folder is refused
        assert "leaves" in reply["detail"]
        assert files == []
        return
    assert len(files) == 1
    assert re.fullmatch("samples/" + name, files[0]), files


def test_directories_filename_pattern_and_words(live: ReferenceServer, folder: Path) -> None:
    options = {
        "save_to_dirs": True,
        "directories_filename_pattern": "[prompt_words]",
        "directories_max_prompt_words": 2,
    }
    assert save(live, folder, options)[0] == ["samples/a red/00000-7.png"]


def test_save_images_add_number_and_replace_action(live: ReferenceServer, folder: Path) -> None:
    options = {"save_images_add_number": False}
    assert save(live, folder, options)[0] == ["samples/7.png"]
    assert save(live, folder, options)[0] == ["samples/7.png"]
    options["save_images_replace_action"] = "Add number suffix"  # type: ignore[assignment]
    assert save(live, folder, options)[0] == ["samples/7-1.png", "samples/7.png"]


def test_numbers_run_on(live: ReferenceServer, folder: Path) -> None:
    save(live, folder)
    assert save(live, folder, seed=8)[0] == ["samples/00000-7.png", "samples/00001-8.png"]


@pytest.mark.parametrize("format", ["jpg", "webp"])
def test_samples_format(live: ReferenceServer, folder: Path, format: str) -> None:
    files, drawing = save(live, folder, {"samples_format": format})
    assert files == [f"samples/00000-7.{format}"]
    with Image.open(folder / files[0]) as image:
        assert image.format == {"jpg": "JPEG", "webp": "WEBP"}[format]
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment == b"UNICODE\0" + drawing.infotext.encode("utf-16-be")


def test_jpeg_quality(live: ReferenceServer, folder: Path) -> None:
    sizes = []
    for quality in (30, 95):
        files, _ = save(live, folder / str(quality), {"samples_format": "jpg", "jpeg_quality": quality})
        sizes.append((folder / str(quality) / files[0]).stat().st_size)
    assert sizes[0] < sizes[1]


def test_webp_lossless(live: ReferenceServer, folder: Path, plain: Drawing) -> None:
    for lossless in (True, False):
        files, _ = save(live, folder / str(lossless), {"samples_format": "webp", "webp_lossless": lossless})
        with Image.open(folder / str(lossless) / files[0]) as image:
            assert (difference(image, plain.image) == 0) is lossless


def test_enable_pnginfo_off(live: ReferenceServer, folder: Path) -> None:
    files, drawing = save(live, folder, {"enable_pnginfo": False, "save_txt": True})
    with Image.open(folder / files[0]) as image:
        assert "parameters" not in image.info
    assert "parameters" not in drawing.image.info
    assert "Steps: 2" in drawing.infotext


def test_save_txt(live: ReferenceServer, folder: Path) -> None:
    files, drawing = save(live, folder, {"save_txt": True})
    assert files == ["samples/00000-7.png", "samples/00000-7.txt"]
    assert (folder / files[1]).read_text() == drawing.infotext + "\n"


def test_grids(live: ReferenceServer, folder: Path) -> None:
    files, drawing = save(live, folder, batch_size=2, steps=1)
    assert files == ["grids/grid-0000.png", "samples/00000-7.png", "samples/00001-8.png"]
    assert drawing.info["index_of_first_image"] == 1
    assert [image.size for image in drawing.images] == [(128, 64), (64, 64), (64, 64)]
    with Image.open(folder / files[0]) as image:
        assert difference(image, drawing.image) == 0


@pytest.mark.parametrize(
    ("options", "files", "images"),
    [
        ({"grid_save": False}, [], 3),
        ({"return_grid": False}, ["grids/grid-0000.png"], 2),
        ({"grid_format": "jpg"}, ["grids/grid-0000.jpg"], 3),
        ({"grid_extended_filename": True}, ["grids/grid-0000-7.png"], 3),
        ({"grid_save_to_dirs": True, "directories_filename_pattern": "x"}, ["grids/x/grid-0000.png"], 3),
    ],
    ids=str,
)
def test_grid_options(
    live: ReferenceServer, folder: Path, options: dict[str, Any], files: list[str], images: int
) -> None:
    found, drawing = save(live, folder, options, batch_size=2, steps=1)
    assert [name for name in found if name.startswith("grids/")] == files
    assert len(drawing.images) == images


@pytest.mark.parametrize(
    ("options", "count", "size"),
    [
        ({"n_rows": 1}, 3, (192, 64)),
        ({"n_rows": 3}, 3, (64, 192)),
        ({"n_rows": 0}, 3, (64, 192)),
        ({}, 3, (128, 128)),
        ({"grid_prevent_empty_spots": True}, 3, (192, 64)),
    ],
    ids=str,
)
def test_grid_rows(live: ReferenceServer, options: dict[str, Any], count: int, size: tuple[int, int]) -> None:
    files = {"samples_save": False, "grid_save": False, **options}
    assert draw(live, files, save_images=True, batch_size=count, steps=1).image.size == size


def test_grid_only_if_multiple_off(live: ReferenceServer, folder: Path) -> None:
    files, drawing = save(live, folder, {"grid_only_if_multiple": False})
    assert files == ["grids/grid-0000.png", "samples/00000-7.png"]
    assert len(drawing.images) == 2


def test_save_images_before_highres_fix(live: ReferenceServer, folder: Path, plain: Drawing) -> None:
    files, _ = save(
        live,
        folder,
        {"save_images_before_highres_fix": True},
        **{"enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.5},
    )
    assert files == ["samples/00000-7-before-highres-fix.png", "samples/00001-7.png"]
    with Image.open(folder / files[0]) as first, Image.open(folder / files[1]) as second:
        assert (first.size, second.size) == ((64, 64), (96, 96))
        assert difference(first, plain.image) == 0


def test_masks_are_saved_and_returned(live: ReferenceServer, folder: Path) -> None:
    options = dict.fromkeys(("save_mask", "save_mask_composite", "return_mask", "return_mask_composite"), True)
    small = {name: input_text(f"{name}128.png", (64, 64)) for name in ("init", "mask")}
    files, drawing = save(
        live, folder, options, init_images=[small["init"]], mask=small["mask"], inpaint_full_res=False
    )
    names = [re.sub(r"\d{5}-", "", name) for name in files if name.startswith("samples/")]
    assert sorted(names) == ["samples/7-mask-composite.png", "samples/7-mask.png", "samples/7.png"]
    # As in A1111 masks count as pictures of the job, and so there is a grid of them.
    assert [image.mode for image in drawing.images] == ["RGB", "RGB", "RGB", "RGBA"]


def test_save_images_before_color_correction(live: ReferenceServer, folder: Path) -> None:
    options = {"save_images_before_color_correction": True, "img2img_color_correction": True}
    files, _ = save(live, folder, options, init_images=[input_text("init128.png", (64, 64))])
    assert [re.sub(r"\d{5}-", "", name) for name in files] == ["samples/7-before-color-correction.png", "samples/7.png"]
    with Image.open(folder / files[0]) as before, Image.open(folder / files[1]) as after:
        assert difference(before, after) > 0


def test_save_init_img(live: ReferenceServer, folder: Path) -> None:
    text = input_text("init128.png", (64, 64))
    files, drawing = save(live, folder, {"save_init_img": True}, init_images=[text], save_images=False)
    with Image.open(folder / files[0]) as image:
        digest = hashlib.md5(image.tobytes(), usedforsecurity=False).hexdigest()
    assert files == [f"init/{digest}.png"]
    assert f"Init image hash: {digest}" in drawing.infotext


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        ({"img_downscale_threshold": 0.001}, (64, 64)),
        ({"target_side_length": 32}, (32, 32)),
        ({"target_side_length": 32, "export_for_4chan": False}, None),
    ],
    ids=str,
)
def test_export_for_4chan(
    live: ReferenceServer, folder: Path, limits: dict[str, Any], size: tuple[int, int] | None
) -> None:
    files, _ = save(live, folder, {"export_for_4chan": True, **limits})
    assert files == ["samples/00000-7.jpg", "samples/00000-7.png"] if size else ["samples/00000-7.png"]
    if size:
        assert opened((folder / files[0]).read_bytes()).size == size


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("add_model_name_to_info", "Model: tiny-a"),
        ("add_model_hash_to_info", "Model hash: 328de3e9b7"),
        ("add_version_to_infotext", "Version: "),
    ],
)
def test_what_the_infotext_names(live: ReferenceServer, plain: Drawing, option: str, text: str) -> None:
    assert text in plain.infotext
    assert text not in draw(live, {option: False}).infotext


def test_vae_in_the_infotext(live: ReferenceServer) -> None:
    chosen = {"sd_vae": "alt-vae.safetensors"}
    assert "VAE hash: " in (text := draw(live, chosen).infotext)
    assert "VAE: alt-vae.safetensors" in text
    text = draw(live, chosen | {"add_vae_name_to_info": False, "add_vae_hash_to_info": False}).infotext
    assert "VAE" not in text


def test_ti_hashes(live: ReferenceServer) -> None:
    assert 'TI hashes: "' in draw(live, prompt="tinyti").infotext
    assert "TI hashes" not in draw(live, {"textual_inversion_add_hashes_to_infotext": False}, prompt="tinyti").infotext


@pytest.mark.parametrize(("format", "kind"), [("jpg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
def test_samples_format_set_for_good_is_the_replys_too(live: ReferenceServer, format: str, kind: str) -> None:
    """An override of it concerns files only: A1111 encodes the reply when overrides have been put back."""
    live.call("POST", "/sdapi/v1/options", {"samples_format": format})
    try:
        assert draw(live).image.format == kind
        assert draw(live, {"samples_format": "webp"}).image.format == kind
        assert f'"samples_format": "{format}"' in (live.data / "config.json").read_text()
    finally:
        live.call("POST", "/sdapi/v1/options", {"samples_format": "png"})


def test_params_txt_holds_the_last_jobs_infotext(live: ReferenceServer) -> None:
    drawing = draw(live, seed=99)
    assert (live.data / "params.txt").read_text() == drawing.infotext


# --- what cannot be saved --------------------------------------------------------------------------------------------


def test_a_picture_that_cannot_be_saved_is_answered_all_the_same(live: ReferenceServer, folder: Path) -> None:
    """A file stands where the folder belongs; a full disk and a read-only one fail in the same place."""
    folder.mkdir(parents=True)
    for name in ("samples", "init", "grids"):
        (folder / name).write_text("no folder")
    files, drawing = save(live, folder, batch_size=2)
    assert files == ["grids", "init", "samples"]
    assert len(drawing.images) == 3
    assert "a picture could not be saved: File exists" in drawing.info["warnings"]
    assert "a grid could not be saved: File exists" in drawing.info["warnings"]
    _, drawing = save(live, folder, {"save_init_img": True}, init_images=[input_text("init128.png")])
    assert "an init picture could not be saved: File exists" in drawing.info["warnings"]


def test_names_longer_than_file_systems_take_are_cut(live: ReferenceServer, folder: Path) -> None:
    long = "長い名前" * 100
    options = {"samples_filename_pattern": f"{long}/{long}[seed]", "save_to_dirs": True}
    files, drawing = save(live, folder, {**options, "directories_filename_pattern": f"{long}/x"})
    assert len(files) == 1
    assert all(len(part.encode()) <= 255 for part in Path(files[0]).parts)
    assert "warnings" not in drawing.info


def test_options_that_cannot_be_written_are_told(tiny_data: Path, latentd_app: AppFactory) -> None:
    (latentd_app.data_dir / "models").symlink_to(tiny_data / "models")
    client = latentd_app(flags=["--ui-settings-file", "there/config.json"])
    assert client.post("/sdapi/v1/options", json={"n_rows": 2}).status_code == 200
    config = latentd_app.data_dir / "there" / "config.json"
    config.unlink()
    config.parent.rmdir()
    config.parent.write_text("no folder")
    reply = client.post("/sdapi/v1/options", json={"n_rows": 3})
    assert (reply.status_code, reply.json()["hint"]) == (507, "they count until the server ends")
    assert client.get("/sdapi/v1/options").json()["n_rows"] == 3
    body = {"prompt": "a cat", "steps": 1, "width": 64, "height": 64, "override_settings": {"samples_format": "png"}}
    assert len(client.post("/sdapi/v1/txt2img", json=body).json()["images"]) == 1
