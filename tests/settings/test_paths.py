"""Folders follow the data folder, the models folder and the flags that name them."""

from __future__ import annotations

from pathlib import Path

from latentd.settings import parse_settings
from latentd.settings.paths import Paths


def paths(*arguments: str) -> Paths:
    return parse_settings(["--data-dir", "/base", *arguments], {}).paths


def test_everything_lies_below_the_data_folder() -> None:
    found = paths()
    assert found.data == Path("/base")
    assert found.models("Stable-diffusion") == [Path("/base/models/Stable-diffusion")]
    assert found.models("Lora") == [Path("/base/models/Lora"), Path("/base/models/LyCORIS")]
    assert found.models("embeddings") == [Path("/base/embeddings")]
    assert found.config_file == Path("/base/config.json")
    assert found.styles_patterns == ("/base/styles.csv",)


def test_a_further_folder_is_searched_after_automatic1111s_own() -> None:
    found = paths("--ckpt-dir", "/elsewhere", "--controlnet-dir", "cn")
    assert found.models("Stable-diffusion") == [Path("/base/models/Stable-diffusion"), Path("/elsewhere")]
    assert found.models("ControlNet") == [Path("/base/models/ControlNet"), Path("/base/cn")]


def test_models_dir_moves_every_folder_of_models() -> None:
    found = paths("--models-dir", "/weights")
    assert found.models("Stable-diffusion") == [Path("/weights/Stable-diffusion")]
    assert found.models("ESRGAN") == [Path("/weights/ESRGAN")]
    assert found.models("embeddings") == [Path("/base/embeddings")]


def test_a_folder_named_by_a_flag_replaces_the_default() -> None:
    assert paths("--esrgan-models-path", "/up").models("ESRGAN") == [Path("/up")]


def test_a_kind_without_a_flag_is_a_folder_of_that_name() -> None:
    assert paths().models("Sounds") == [Path("/base/models/Sounds")]


def test_a_relative_data_folder_is_taken_from_where_the_server_starts(tmp_path: Path, monkeypatch: object) -> None:
    monkeypatch.chdir(tmp_path)  # type: ignore[attr-defined]
    assert parse_settings(["--data-dir", "here/../there"], {}).paths.data == tmp_path / "there"


def test_links_out_of_the_data_folder_are_outside(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "out").symlink_to(tmp_path)
    found = parse_settings(["--data-dir", str(data)], {}).paths
    assert found.contains(data / "new" / "file.png")
    assert not found.contains(data / "out" / "file.png")
    assert not found.contains(data / ".." / "file.png")
