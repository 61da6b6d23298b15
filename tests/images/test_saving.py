from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentd.errors import InvalidRequest
from latentd.images import saving
from latentd.images.metadata import read_metadata
from latentd.images.saving import SaveOptions, inside, next_number, save_image

IMAGE = Image.new("RGB", (8, 8), "red")
INFO = {"parameters": "a cat\nSteps: 4", "extra": "x"}


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_numbers_go_on_from_the_largest_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "00041-old.png").touch()
    (tmp_path / "grid-0007.png").touch()
    (tmp_path / "notes.txt").touch()
    saved = save_image(IMAGE, tmp_path, name="1234-a_cat", info=INFO)
    assert saved.image == tmp_path / "00042-1234-a_cat.png"
    assert read_metadata(Image.open(saved.image)) == (INFO["parameters"], {"extra": "x"})
    assert save_image(IMAGE, tmp_path, basename="grid").image.name == "grid-0008.png"
    assert next_number(tmp_path) == 43


def test_folders_are_made_and_nothing_half_written_is_left(tmp_path: Path) -> None:
    saved = save_image(IMAGE, tmp_path / "out", subfolder="2026-11-23", name="7", suffix="-mask", format="jpg")
    assert names(tmp_path) == ["out/2026-11-23/00000-7-mask.jpg"]
    assert saved.text is None
    assert saved.extra is None


def test_slashes_in_a_pattern_make_folders(tmp_path: Path) -> None:
    assert save_image(IMAGE, tmp_path, name="day/7").image == tmp_path / "day" / "00000-7.png"


def test_without_numbers_files_are_replaced_or_get_a_suffix(tmp_path: Path) -> None:
    plain = SaveOptions(save_images_add_number=False)
    for _ in range(2):
        save_image(IMAGE, tmp_path, name="7", options=plain)
    assert names(tmp_path) == ["7.png"]
    kept = SaveOptions(save_images_add_number=False, save_images_replace_action="Add number suffix")
    for _ in range(2):
        save_image(IMAGE, tmp_path, name="7", options=kept)
    assert names(tmp_path) == ["7-1.png", "7-2.png", "7.png"]


def test_a_nameless_picture_is_numbered_all_the_same(tmp_path: Path) -> None:
    assert save_image(IMAGE, tmp_path, options=SaveOptions(save_images_add_number=False)).image.name == "00000.png"


def test_forced_names_get_no_number(tmp_path: Path) -> None:
    assert save_image(IMAGE, tmp_path, forced_name="0123abcd").image.name == "0123abcd.png"


def test_infotext_goes_into_a_text_file_where_asked(tmp_path: Path) -> None:
    saved = save_image(IMAGE, tmp_path, name="v1.5", info=INFO, options=SaveOptions(save_txt=True))
    assert saved.text == tmp_path / "00000-v1.5.txt"
    assert saved.text.read_text() == "a cat\nSteps: 4\n"


def test_pnginfo_can_be_left_out(tmp_path: Path) -> None:
    saved = save_image(IMAGE, tmp_path, info=INFO, options=SaveOptions(enable_pnginfo=False))
    assert read_metadata(Image.open(saved.image)) == (None, {})


def test_pictures_too_long_for_a_format_become_png(tmp_path: Path) -> None:
    assert save_image(Image.new("L", (16384, 1)), tmp_path, format="webp").image.suffix == ".png"


def test_oversize_pictures_get_a_smaller_jpeg_beside_them(tmp_path: Path) -> None:
    options = SaveOptions(target_side_length=100)
    saved = save_image(Image.new("RGB", (200, 60)), tmp_path, name="7", options=options)
    assert saved.extra == tmp_path / "00000-7.jpg"
    assert Image.open(saved.extra).size == (100, 30)
    assert Image.open(saved.image).size == (200, 60)
    heavy = SaveOptions(img_downscale_threshold=0.001)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    extra = save_image(noise, tmp_path, name="8", options=heavy).extra
    assert extra is not None
    assert Image.open(extra).size == (64, 64)
    off = SaveOptions(target_side_length=100, export_for_4chan=False)
    assert save_image(Image.new("RGB", (200, 60)), tmp_path, options=off).extra is None


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("relative", ["../x", "a/../../x", "/etc/x", "..", "C:\\x", "..\\x", "a:b", "a\0b"])
def test_names_never_leave_the_folder(
    tmp_path: Path, relative: str, windows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "_WINDOWS", windows)
    if not windows and relative in ("C:\\x", "..\\x", "a:b"):
        assert inside(tmp_path, relative) == tmp_path / relative
        return
    with pytest.raises(InvalidRequest, match="leaves the output folder"):
        inside(tmp_path, relative)
    for arguments in ({"subfolder": relative}, {"forced_name": relative}):
        with pytest.raises(InvalidRequest):
            save_image(IMAGE, tmp_path / "out", **arguments)
    assert names(tmp_path) == []


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "away").symlink_to(tmp_path)
    with pytest.raises(InvalidRequest):
        save_image(IMAGE, tmp_path / "out", subfolder="away")


def test_very_long_names_are_cut(tmp_path: Path) -> None:
    saved = save_image(IMAGE, tmp_path, name="猫" * 400)
    assert saved.image.exists()
    assert len(saved.image.name.encode()) <= 255


@pytest.mark.parametrize("name", ["a\ud800b", "\udcff" * 300, "\ud83d"])
def test_names_with_half_a_character_are_written_without_it(tmp_path: Path, name: str) -> None:
    for arguments in ({"name": name}, {"forced_name": name}, {"name": "x", "subfolder": name}):
        saved = save_image(IMAGE, tmp_path, **arguments)
        assert Image.open(saved.image).size == (8, 8)
